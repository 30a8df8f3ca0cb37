//! Marking: the head stops naming old versions.

use serde::Serialize;

use super::GcOptions;
use crate::head::{Head, VersionRow};
use crate::name::{Name, Version};
use crate::publish::error::{Error, ErrorKind};
use crate::publish::report::MirrorReport;
use crate::publish::retired::Retired;
use crate::publish::session::{Intent, Session, Watch};
use crate::publish::sync::Planned;
use crate::time::Timestamp;

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// What marking did to one image.
#[derive(Debug, Clone, Serialize)]
pub struct Marked {
    /// The image.
    pub image: String,
    /// The versions that stay, newest first.
    pub kept: Vec<u32>,
    /// The versions that were retired.
    pub retired: Vec<u32>,
    /// Why nothing was done, where nothing could be.
    pub skipped: Option<String>,
    /// What became of each mirror, where anything was to be done.
    pub mirrors: Vec<MirrorReport>,
}

/// Retires the versions of `name` that are neither among the newest nor young.
pub(super) async fn mark(options: &GcOptions, name: &Name, watch: &Watch) -> Result<Marked, Error> {
    let mut session = match Session::open(options.work.clone(), name.clone(), Intent::Change, watch.clone()).await {
        Ok(session) => session,
        // Somebody else's image: its versions are not ours to retire, and its blocks live.
        Err(e) if e.kind() == ErrorKind::Usage && options.images.is_empty() => return Ok(skipped(name, &e)),
        Err(e) => return Err(e),
    };
    let marked = steps(options, &mut session).await;
    session.close().await;
    marked
}

fn skipped(name: &Name, why: &Error) -> Marked {
    let (kept, retired, mirrors) = Default::default();
    Marked { image: name.to_string(), kept, retired, skipped: Some(why.to_string()), mirrors }
}

async fn steps(options: &GcOptions, session: &mut Session) -> Result<Marked, Error> {
    let Some(head) = &session.base.head else {
        return Err(Error::new(ErrorKind::Unverified, format!("{}: listed, but no mirror has its head", session.name)));
    };
    let retired = choose(head, options, session.now);
    let numbers = |rows: &mut dyn Iterator<Item = Version>| rows.map(|v| v.number()).collect::<Vec<u32>>();
    let gone = numbers(&mut retired.iter().map(|r| r.row.version));
    let kept = numbers(&mut head.versions.iter().map(|row| row.version).filter(|v| !gone.contains(&v.number())));
    let mut marked = Marked { image: head.image.to_string(), kept, retired: gone, skipped: None, mirrors: Vec::new() };
    let plan = match (retired.is_empty(), session.is_split()) {
        (true, false) => return Ok(marked),
        // Whoever retired them died before all mirrors had the head.
        (true, true) => session.planner(None, false).plan_standing()?,
        (false, _) => session.planner(None, false).plan_retirement(&retired)?,
    };
    let report = if session.work.dry_run {
        session.preview(&plan, &mut Planned::new()).await?
    } else {
        let uploads = session.start_uploads();
        session.carry_out(&plan, uploads).await?
    };
    marked.mirrors = report.mirrors;
    Ok(marked)
}

/// The versions beyond the newest `keep` that are not younger than `keep_days`, with the files that are theirs alone.
fn choose(head: &Head, options: &GcOptions, now: Timestamp) -> Vec<Retired> {
    let young =
        |row: &VersionRow| now.unix().saturating_sub(row.created.unix()) < u64::from(options.keep_days) * DAY_SECONDS;
    let old = head.versions.iter().skip(options.keep.max(1)).filter(|row| !young(row));
    let retire = |row: &VersionRow| Retired {
        image: head.image.clone(),
        marked: now,
        row: row.clone(),
        files: head.files.iter().filter(|file| file.path.belongs_to(&head.image, row.version)).cloned().collect(),
    };
    old.map(retire).collect()
}
