//! Checks what clients read through the mirror's public URL: heads, the newest indexes and a sample of the blocks and
//! deltas.

use futures_util::{StreamExt as _, stream};

use super::findings::{Finding, Findings};
use super::objects::{self, Twice};
use super::run::Run;
use super::stored::Stored;
use crate::error::Error;
use crate::format::layout::RepoPath;
use crate::repo::survey::{Flaw, HeadState, ProblemKind, VerifiedHead, head};
use crate::store::Fetch;

/// Concurrent block reads.
const BLOCKS_AT_ONCE: usize = 8;

/// Compares the public URL of `mirror` with its store. Objects damaged in the store are skipped.
pub async fn check(run: &Run, mirror: usize, sample: Vec<Stored>, findings: &mut Findings) {
    let Some(public) = &run.mirrors()[mirror].public else { return };
    let reader = Twice(&**public);
    if let Err(e) = check_all(run, mirror, &reader, sample, findings).await {
        let flaw = Flaw::new(ProblemKind::Unreadable, format!("the public URL cannot be reached: {e}"));
        findings.add([Finding::public(RepoPath::images(), flaw)]);
    }
}

async fn check_all(
    run: &Run,
    mirror: usize,
    reader: &dyn Fetch,
    sample: Vec<Stored>,
    findings: &mut Findings,
) -> Result<(), Error> {
    let damaged = findings.damaged();
    for believed in &run.duties[mirror] {
        let image = &believed.head.image;
        if !damaged.contains(&RepoPath::head(image)) {
            check_head(run, reader, believed, findings).await?;
        }
        let row = believed.head.newest();
        let path = row.index_path(image);
        if !damaged.contains(&path) {
            let _room = run.budget.room(row.index_bytes).await;
            note(findings, path.clone(), objects::file(reader, &path, row.index_bytes, &row.index_sha256).await?);
        }
    }
    let reads = stream::iter(sample).map(|stored| async move {
        let _room = run.budget.room(stored.max_bytes()).await;
        (stored.path(), stored.read(reader).await)
    });
    let mut reads = reads.buffer_unordered(BLOCKS_AT_ONCE);
    while let Some((path, examined)) = reads.next().await {
        note(findings, path, examined?);
    }
    Ok(())
}

fn note(findings: &mut Findings, path: RepoPath, examined: Result<bytes::Bytes, Flaw>) {
    match examined {
        Ok(file) => findings.read(file.len() as u64),
        Err(flaw) => findings.add([Finding::public(path, flaw)]),
    }
}

/// Checks that the public head equals the store's; an older one, from a cache, is reported as behind.
async fn check_head(run: &Run, reader: &dyn Fetch, own: &VerifiedHead, findings: &mut Findings) -> Result<(), Error> {
    let image = &own.head.image;
    let flaw = match head::read(reader, image, &run.options.policy.of(image)).await {
        HeadState::Verified(shown) if shown.file == own.file => {
            findings.read(shown.file.len() as u64);
            return Ok(());
        }
        HeadState::Verified(shown) if head::age(&shown.head) < head::age(&own.head) => {
            let version = shown.head.newest().version;
            Flaw::new(
                ProblemKind::Behind,
                format!("shows an older head (version {version}): a cache before the mirror?"),
            )
        }
        HeadState::Verified(_) => Flaw::new(ProblemKind::Wrong, "another head than the store has"),
        HeadState::Absent => Flaw::new(ProblemKind::Missing, "not there"),
        HeadState::Damaged(flaw, _) | HeadState::Foreign(_, flaw, _) => flaw,
        HeadState::Unreadable(e) => Flaw::of(e)?,
    };
    findings.add([Finding::public(RepoPath::head(image), flaw)]);
    Ok(())
}
