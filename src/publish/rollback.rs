//! `rollback`: a new version with the contents of an old one. Only an index and a head are uploaded.

use super::base;
use super::pipeline::cut::CutImage;
use super::repository::options::Repository;
use super::repository::signer::Signer;
use super::repository::{OpenRepository, Selection};
use super::version::carry_out::carry_out;
use super::version::plan::Extras;
use super::version::planned::Previewed;
use super::version::report::Report;
use super::version::session::Session;
use crate::error::Error;
use crate::format::name::{Label, Name, Version};
use crate::progress::Watch;
use crate::repo::ReadError;

/// What to publish again.
#[derive(Debug, Clone)]
pub struct RollbackOptions {
    /// Image name.
    pub name: Name,
    /// The old version.
    pub version: Version,
    /// Label of the new version; the default names the old version.
    pub label: Option<Label>,
}

/// Publishes the contents of an old version again, as the newest version.
///
/// # Errors
/// No such image or version; otherwise those of [`publish`](super::publish()).
pub async fn rollback(repository: &Repository, options: &RollbackOptions, watch: &Watch) -> Result<Report, Error> {
    let RollbackOptions { name, version, label } = options;
    let keyring = repository.keyring.as_ref();
    let signer = Signer::for_change(keyring, name)?;
    let (policy, look) = (signer.policy(keyring, name), Selection::at(name));
    OpenRepository::during(repository.clone(), policy, look, watch.clone(), async |open| {
        let session = Session::begin(open, name.clone(), signer).await?;
        steps(session, *version, label.clone()).await
    })
    .await
}

async fn steps(mut session: Session<'_>, version: Version, label: Option<Label>) -> Result<Report, Error> {
    let Some(head) = &session.base.head else {
        let message = format!("{}: there is no such image on these mirrors", session.name);
        return Err(Error::usage(message));
    };
    let row = head.version(version).ok_or_else(|| ReadError::no_version(head, version))?;
    let sha256 = head.image_sha256(version);
    let (index, holders) = base::index_of(session.mirrors(), &session.name, row).await?;
    // Its blocks count as known, like those of the newest versions.
    holders.iter().try_for_each(|mirror| session.base.known.add(&index, mirror))?;
    let (cut, rule) = (CutImage { sha256, ..CutImage::of(&index) }, index.header().split.clone());
    let profiles = session.profiles(None, &[version]).await;
    let extras = Extras { profiles, boot: session.boot_files_of(version).await?, deltas: None };
    let label = label.or_else(|| format!("version {version} again").parse().ok());
    let plan = session.planner(label.as_ref(), false, &extras).plan(cut, rule)?;
    carry_out(session, plan, &mut Previewed::new()).await
}
