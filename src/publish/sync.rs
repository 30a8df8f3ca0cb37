//! `sync`: every mirror gets the newest versions of every image, from the mirrors that have them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures_util::future::join_all;

use super::base;
use super::cut::CutImage;
use super::error::{Error, ErrorKind};
use super::mirror;
use super::options::Work;
use super::progress::Progress;
use super::report::Report;
use super::session::{Intent, Session, Watch};
use crate::head::Trust;
use crate::name::Name;

/// The names of all images that some mirror lists.
///
/// # Errors
/// No mirror that can be read.
pub async fn images(work: &Work) -> Result<BTreeSet<Name>, Error> {
    let mut mirrors = mirror::open_all(&work.mirrors, &work.relative_to)?;
    let lists = join_all(mirrors.iter().map(base::images)).await;
    let mut names = BTreeSet::new();
    for (mirror, list) in mirrors.iter_mut().zip(lists) {
        match list {
            Ok(list) => names.extend(list),
            Err(e) => mirror.fail(e),
        }
    }
    mirror::all_failed(&mirrors).map_or(Ok(names), Err)
}

/// Brings image `name` to every mirror that lacks some of it. Where the secret key is at hand the head names mirrors that
/// are new in mirrors.toml; else clients learn of them with the next version.
///
/// # Errors
/// Those of [`publish`](super::publish()).
pub async fn sync(
    work: Work,
    name: Name,
    trust: Trust,
    progress: Arc<dyn Progress>,
    cancel: Arc<AtomicBool>,
) -> Result<Report, Error> {
    let mut session = Session::open(work, name, Intent::Copy(trust), Watch { progress, cancel }).await?;
    let report = steps(&mut session).await;
    session.close().await;
    report
}

async fn steps(session: &mut Session) -> Result<Report, Error> {
    let Some(newest) = session.base.newest() else {
        let message = format!("{}: there is no such image on these mirrors", session.name);
        return Err(Error::new(ErrorKind::Usage, message));
    };
    let (cut, rule) = (CutImage::of(newest), newest.header().split);
    let plan = session.planner(None, false).plan_unchanged(cut, rule)?;
    if session.work.dry_run {
        return session.preview(&plan).await;
    }
    let uploads = session.start_uploads();
    session.carry_out(&plan, uploads).await
}
