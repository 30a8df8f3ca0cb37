//! Repairs damaged objects in a store from intact copies on other mirrors.
//!
//! Blocks, indexes, files and signatures come first; each is checked before it is written, and read back afterwards.
//! Then comes the list of images. A damaged head comes last, and only if everything it promises exists. Nothing is
//! ever deleted.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::files::check_signature;
use super::findings::{Finding, Findings, Object};
use super::objects::{self, Examined};
use super::problem::Place;
use super::run::Run;
use crate::error::{Error, ErrorKind};
use crate::format::image_list;
use crate::format::layout::{Kind, RepoPath};
use crate::format::signature::SIGNATURE_MAX_BYTES;
use crate::repo::survey::{Flaw, ProblemKind, numbers};
use crate::store::{Fetch, Swap};

/// Repairs `mirror` as far as possible; a finding that remains states why.
///
/// # Errors
/// The mirror became unreachable, or its lock was lost.
pub async fn repair(run: &Run, mirror: usize, findings: &mut Findings) -> Result<(), Error> {
    let mut list = std::mem::take(&mut findings.list);
    let done = repair_all(run, mirror, &mut list).await;
    findings.list = list;
    done
}

async fn repair_all(run: &Run, mirror: usize, findings: &mut [Finding]) -> Result<(), Error> {
    let is_body =
        |f: &Finding| matches!(f.object, Some(Object::Block(_) | Object::File { .. } | Object::Signature { .. }));
    if findings.iter().any(|f| f.object.is_some()) {
        run.mirrors()[mirror].confirm().await?;
    }
    let bodies = stream::iter(findings.iter_mut().filter(|f| is_body(f) && !f.repaired));
    let mut bodies = bodies.map(|f| repair_body(run, mirror, f)).buffer_unordered(run.jobs(mirror));
    let mut written = false;
    while let Some(repaired) = bodies.next().await {
        written |= repaired?;
    }
    drop(bodies);
    if written {
        run.mirrors()[mirror].store.barrier().await?;
    }
    for finding in findings.iter_mut() {
        repair_list(run, mirror, finding).await?;
    }
    // Public URL problems, and damage to only the list or another head, do not break the promises of this head.
    let promise_broken = findings.iter().any(|f| f.place == Place::Store && is_body(f) && !f.repaired);
    for finding in findings.iter_mut() {
        repair_head(run, mirror, finding, promise_broken).await?;
    }
    Ok(())
}

/// Repairs a block, a file or a signature; returns whether it was written.
async fn repair_body(run: &Run, mirror: usize, finding: &mut Finding) -> Result<bool, Error> {
    let Some(object) = finding.object.clone() else { return Ok(false) };
    let path = finding.path.clone();
    for other in run.others(mirror) {
        let Some(source) = run.source(other) else { continue };
        let _room = run.budget.room(object.max_bytes()).await;
        let Some(good) = run.good(other, object.read_right(source, &path).await) else { continue };
        let store = &*run.mirrors()[mirror].store;
        if let Err(e) = store.put_replace(&path, good.clone()).await {
            return settle(finding, e.into()).map(|()| false);
        }
        match store.get(&path, good.len() as u64).await {
            Ok(found) if found == good => finding.repaired = true,
            Ok(_) => not_repaired(finding, "it reads back with other bytes than were written"),
            Err(e) => settle(finding, e.into())?,
        }
        return Ok(true);
    }
    let why = match path.kind() {
        Kind::Delta(_) => {
            "no other mirror has it right, and clients fetch the whole block; hfl sync --check list, with the secret key, \
             stops offering its update"
        }
        Kind::File if path.is_optional() => {
            "no other mirror has it right; hfl sync --check list, with the secret key, stops offering it"
        }
        _ => "no other mirror has it right",
    };
    not_repaired(finding, why);
    Ok(false)
}

/// Adds the failure of one object to its finding; an unreachable mirror ends the work on it.
fn settle(finding: &mut Finding, error: Error) -> Result<(), Error> {
    if error.kind() == ErrorKind::Unreachable {
        return Err(error);
    }
    not_repaired(finding, &error.to_string());
    Ok(())
}

fn not_repaired(finding: &mut Finding, why: &str) {
    finding.flaw.what += &format!("; not repaired: {why}");
}

async fn repair_list(run: &Run, mirror: usize, finding: &mut Finding) -> Result<(), Error> {
    let Some(Object::Images { old, names }) = finding.object.clone() else { return Ok(()) };
    let new = image_list::to_text(&names);
    swap(run, mirror, finding, old.as_deref(), new.into()).await
}

async fn repair_head(run: &Run, mirror: usize, finding: &mut Finding, promise_broken: bool) -> Result<(), Error> {
    let Some(Object::Head { image, old }) = finding.object.clone() else { return Ok(()) };
    let Some(newest) = run.required.newest.get(&image) else {
        not_repaired(finding, "no mirror has a head of it that verifies");
        return Ok(());
    };
    if promise_broken {
        not_repaired(finding, "not everything that it promises is there");
        return Ok(());
    }
    let newest = Arc::clone(newest);
    let accepted = run.repository.policy.of(&image);
    let store = &*run.mirrors()[mirror].store;
    let listed = run.repository.views[mirror].inventory.indexes.get(&image);
    match numbers::highest(store, &image, listed, Some(&newest.head), &accepted).await {
        Ok(None) => swap(run, mirror, finding, old.as_deref(), newest.file.clone()).await,
        Ok(Some((later, digest))) => {
            let path = RepoPath::index(&image, later, &digest);
            let why = format!("there is {path}, which no head that is known names; publish once more first");
            not_repaired(finding, &why);
            Ok(())
        }
        Err(e) => settle(finding, e.into()),
    }
}

async fn swap(run: &Run, mirror: usize, finding: &mut Finding, old: Option<&[u8]>, new: Bytes) -> Result<(), Error> {
    run.mirrors()[mirror].confirm().await?;
    match run.mirrors()[mirror].store.swap(&finding.path, old, new).await {
        Ok(Swap::Done) => finding.repaired = true,
        Ok(Swap::Changed) => not_repaired(finding, "it was changed meanwhile"),
        Err(e) => return settle(finding, e.into()),
    }
    Ok(())
}

impl Finding {
    /// Notes that a problem can only be repaired by hand.
    pub fn leave(&mut self) {
        let mendable = self.object.is_some() || matches!(self.flaw.kind, ProblemKind::Stray | ProblemKind::Behind);
        if !mendable && self.place == Place::Store {
            not_repaired(self, "only by hand");
        }
    }
}

impl Object {
    fn max_bytes(&self) -> u64 {
        match self {
            Self::Block(row) => crate::format::block::zlib_max_bytes(row.bytes),
            Self::File { bytes, .. } | Self::Signature { bytes, .. } => *bytes,
            Self::Images { .. } | Self::Head { .. } => 0,
        }
    }

    /// Reads the object from this source, if its copy is intact.
    async fn read_right(&self, source: &dyn Fetch, path: &RepoPath) -> Examined<Bytes> {
        match self {
            Self::Block(row) => objects::block(source, row).await,
            Self::File { bytes, sha256 } => objects::file(source, path, *bytes, sha256).await,
            Self::Signature { of, bytes, sha256, keys } => {
                let signature = match source.get(path, SIGNATURE_MAX_BYTES as u64).await {
                    Ok(signature) => signature,
                    Err(e) => return Ok(Err(Flaw::of(e)?)),
                };
                let signed = objects::file(source, of, *bytes, sha256).await?;
                let checked = signed.and_then(|signed| check_signature(&signature, "", keys, Some(&signed)));
                Ok(checked.map(|()| signature))
            }
            Self::Images { .. } | Self::Head { .. } => Ok(Err(Flaw::new(ProblemKind::Wrong, "not copied"))),
        }
    }
}
