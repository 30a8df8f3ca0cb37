//! `rollback`: a new version that is an old one again. Nothing is uploaded but an index and a head.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::base;
use super::pipeline::cut::CutImage;
use super::progress::Progress;
use super::repository::options::Work;
use super::repository::{Look, Repository, Watch};
use super::version::report::Report;
use super::version::session::{Planned, Session, Signer};
use crate::error::{Error, ErrorKind};
use crate::format::name::{Label, Name, Version};
use crate::repo::ReadError;

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
    let keyring = work.keyring.as_ref();
    let signer = Signer::for_change(keyring, &name)?;
    let (policy, watch) = (signer.policy(keyring, &name), Watch { progress, cancel });
    let mut repository = Repository::open(work, policy, Look::at(&name), watch).await?;
    let report = async {
        let mut session = Session::begin(&mut repository, name, signer).await?;
        session.choose_profile(None, &[version]).await;
        steps(&mut session, version, label).await
    };
    let report = report.await;
    repository.close().await;
    report
}

async fn steps(session: &mut Session<'_>, version: Version, label: Option<Label>) -> Result<Report, Error> {
    let Some(head) = &session.base.head else {
        let message = format!("{}: there is no such image on these mirrors", session.name);
        return Err(Error::new(ErrorKind::Usage, message));
    };
    let row = head.version(version).ok_or_else(|| ReadError::no_version(head, version))?;
    let (index, holders) = base::index_of(session.mirrors(), &session.name, row).await?;
    // Its blocks are known as those of the newest versions are.
    holders.iter().try_for_each(|mirror| session.base.known.add(&index, mirror))?;
    let (cut, rule) = (CutImage::of(&index), index.header().split.clone());
    session.boot_again(version).await?;
    let label = label.or_else(|| format!("version {version} again").parse().ok());
    let plan = session.planner(label.as_ref(), false).plan(cut, rule)?;
    if session.repository.work.dry_run {
        return session.preview(&plan, &mut Planned::new()).await;
    }
    let uploads = session.start_uploads();
    session.carry_out(&plan, uploads).await
}
