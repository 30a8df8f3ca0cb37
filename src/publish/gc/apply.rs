//! Carries out a plan, mirror by mirror, and only while this publisher certainly holds the lock.

use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::plan::{MirrorPlan, Plan};
use crate::error::{Error, ErrorKind};
use crate::format::head::HEAD_MAX_BYTES;
use crate::format::layout::RepoPath;
use crate::progress::Watch;
use crate::publish::repository::OpenRepository;
use crate::publish::repository::mirror::OpenMirror;
use crate::repo::survey::MirrorView;

/// Removes the objects that the plan names and records the result for each mirror.
///
/// # Errors
/// Interrupted by the user.
pub(super) async fn apply(plan: &mut Plan, repository: &OpenRepository) -> Result<(), Error> {
    let deltas = plan.dead_deltas.iter().map(RepoPath::delta);
    let blocks: Vec<RepoPath> = plan.dead.iter().map(RepoPath::block).chain(deltas).collect();
    let watch = &repository.watch;
    let mirrors = plan.mirrors.iter_mut().zip(repository.mirrors.iter().zip(&repository.views));
    let removals = mirrors.filter(|(plan, _)| plan.is_clear).map(|(plan, (mirror, view))| async {
        match remove(plan, mirror, view, &blocks, watch).await {
            Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
            Err(e) => (plan.why, plan.hint) = (Some(e.to_string()), e.advice().map(str::to_owned)),
            Ok(()) => {}
        }
        Ok(())
    });
    join_all(removals).await.into_iter().collect()
}

/// Removes the objects from one mirror: blocks first, so that a record still names whatever a crash leaves behind.
async fn remove(
    plan: &mut MirrorPlan,
    mirror: &OpenMirror,
    view: &MirrorView,
    blocks: &[RepoPath],
    watch: &Watch,
) -> Result<(), Error> {
    mirror.confirm().await?;
    look_again(mirror, view).await?;
    remove_all(mirror, blocks, mirror.jobs(), watch, &mut plan.removed).await?;
    remove_all(mirror, &plan.files, 1, watch, &mut plan.removed).await
}

/// Checks that the heads have not changed since the plan was computed.
async fn look_again(mirror: &OpenMirror, view: &MirrorView) -> Result<(), Error> {
    let heads = view.heads.iter().filter_map(|(name, state)| Some((name, state.verified()?)));
    for (name, head) in heads {
        let path = RepoPath::head(name);
        let found = mirror.store.get(&path, HEAD_MAX_BYTES).await?;
        if found != head.file {
            let message = format!("{}/{path}: changed by another publisher meanwhile", mirror.store.location());
            return Err(Error::new(ErrorKind::Conflict, message).hint("run the same command again"));
        }
    }
    Ok(())
}

async fn remove_all(
    mirror: &OpenMirror,
    paths: &[RepoPath],
    jobs: usize,
    watch: &Watch,
    removed: &mut u64,
) -> Result<(), Error> {
    let remove = |path: &RepoPath| {
        let path = path.clone();
        async move {
            if watch.cancel.load(Ordering::Relaxed) {
                let message = "interrupted; what was removed is gone, the rest goes the next time";
                return Err(Error::new(ErrorKind::Interrupted, message));
            }
            if !mirror.is_certain() {
                return Err(uncertain(mirror));
            }
            Ok(mirror.store.delete(&path).await?)
        }
    };
    let mut gone = stream::iter(paths).map(remove).buffer_unordered(jobs);
    while gone.try_next().await?.is_some() {
        *removed += 1;
    }
    Ok(())
}

/// Another publisher may have been at work meanwhile, so the plan is no longer valid.
fn uncertain(mirror: &OpenMirror) -> Error {
    let message = format!(
        "{}: it was not certain any more that no other publisher is at work here; nothing more was removed",
        mirror.store.location()
    );
    Error::new(ErrorKind::Conflict, message).hint("was this machine suspended? run the same command again")
}
