//! `rollback`: a new version that is an old one again. Nothing is uploaded but an index and a head.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::cut::CutImage;
use super::error::{Error, ErrorKind};
use super::options::Work;
use super::progress::Progress;
use super::report::Report;
use super::session::{Intent, Session, Watch};
use super::sync::Planned;
use crate::name::{Label, Name, Version};
use crate::read::ReadError;

/// Publishes the contents of `version` of image `name` again, as the newest version.
///
/// # Errors
/// No such image or version; otherwise those of [`publish`](super::publish()).
pub async fn rollback(
    work: Work,
    name: Name,
    version: Version,
    label: Option<Label>,
    progress: Arc<dyn Progress>,
    cancel: Arc<AtomicBool>,
) -> Result<Report, Error> {
    let mut session = Session::open(work, name, Intent::Change, Watch { progress, cancel }).await?;
    session.choose_profile(None, &[version]).await;
    let report = steps(&mut session, version, label).await;
    session.close().await;
    report
}

async fn steps(session: &mut Session, version: Version, label: Option<Label>) -> Result<Report, Error> {
    let Some(head) = &session.base.head else {
        let message = format!("{}: there is no such image on these mirrors", session.name);
        return Err(Error::new(ErrorKind::Usage, message));
    };
    let Some(index) = session.base.index(version) else {
        return Err(ReadError::no_version(head, version).into());
    };
    let (cut, rule) = (CutImage::of(index), index.header().split.clone());
    session.boot_again(version).await?;
    let label = label.or_else(|| format!("version {version} again").parse().ok());
    let plan = session.planner(label.as_ref(), false).plan(cut, rule)?;
    if session.work.dry_run {
        return session.preview(&plan, &mut Planned::new()).await;
    }
    let uploads = session.start_uploads();
    session.carry_out(&plan, uploads).await
}
