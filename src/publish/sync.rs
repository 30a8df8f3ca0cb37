//! `sync`: every mirror gets the newest versions of every image, from the mirrors that have them.

use std::collections::{BTreeSet, HashSet};

use futures_util::future::join_all;

use super::base;
use super::error::{Error, ErrorKind};
use super::mirror;
use super::options::Work;
use super::report::Report;
use super::session::{Intent, Session, Watch};
use crate::digest::BlockId;
use crate::head::Trust;
use crate::name::Name;

/// The names of all images that some mirror lists.
///
/// # Errors
/// No mirror that can be read.
pub async fn images(work: &Work) -> Result<BTreeSet<Name>, Error> {
    let mut mirrors = mirror::open_all(&work.mirrors, &work.relative_to).await?;
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

/// Blocks that were said to be sent to mirrors (by their place in mirrors.toml): images share blocks, and each is sent once.
pub type Planned = HashSet<(usize, BlockId)>;

/// Brings image `name` to every mirror that lacks some of it. Where the secret key is at hand the head names mirrors that
/// are new in mirrors.toml; else clients learn of them with the next version. `planned` is for dry runs over several images.
///
/// # Errors
/// Those of [`publish`](super::publish()).
pub async fn sync(work: Work, name: Name, trust: Trust, planned: &mut Planned, watch: Watch) -> Result<Report, Error> {
    let mut session = Session::open(work, name, Intent::Copy(trust), watch).await?;
    let report = steps(&mut session, planned).await;
    session.close().await;
    report
}

async fn steps(session: &mut Session, planned: &mut Planned) -> Result<Report, Error> {
    if session.base.newest().is_none() {
        let message = format!("{}: there is no such image on these mirrors", session.name);
        return Err(Error::new(ErrorKind::Usage, message));
    }
    let plan = session.planner(None, false).plan_standing()?;
    if session.work.dry_run {
        return session.preview(&plan, planned).await;
    }
    let uploads = session.start_uploads();
    session.carry_out(&plan, uploads).await
}
