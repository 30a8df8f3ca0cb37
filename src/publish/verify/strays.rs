//! Finds strays: objects on a mirror that nothing names.
//!
//! Reported only; gc removes objects, since it knows what is being published.

use std::collections::BTreeSet;

use super::expected::ExpectedBlocks;
use super::findings::{Finding, Findings};
use crate::format::layout::{Kind, RepoPath};
use crate::repo::survey::{Flaw, MirrorView, ProblemKind};

/// Reports the strays among the listed objects; `named` are the indexes, updates and signatures that any head names.
pub fn find(look: &MirrorView, expected: &ExpectedBlocks, named: &BTreeSet<RepoPath>, findings: &mut Findings) {
    let blocks = look.inventory.blocks.blocks().filter(|(id, _)| !expected.names(id));
    let blocks = blocks.map(|(id, bytes)| (RepoPath::block(id), bytes));
    let deltas = look.inventory.deltas.iter().filter(|(sha256, _)| !expected.lists(sha256));
    let blocks = blocks.chain(deltas.map(|(sha256, bytes)| (RepoPath::delta(sha256), *bytes)));
    let others = look.inventory.files.iter().filter(|e| may_be_stray(e.path.as_str()) && !named.contains(&e.path));
    let strays: Vec<(RepoPath, u64)> = blocks.chain(others.map(|entry| (entry.path.clone(), entry.bytes))).collect();
    findings.checked.strays = Some(strays.len() as u64);
    findings.checked.stray_bytes = strays.iter().map(|(_, bytes)| bytes).sum();
    findings.add(strays.into_iter().map(|(path, bytes)| {
        let flaw = Flaw::new(ProblemKind::Stray, format!("{bytes} bytes, {}", why(&path)));
        Finding::stored(path, flaw, None)
    }));
}

/// Whether a path is in the space of indexes, updates, blocks, deltas or probes; other paths belong to the mirror's
/// operator.
fn may_be_stray(path: &str) -> bool {
    ["blocks/", "deltas/", "index/", "update/", crate::publish::probe::PREFIX]
        .iter()
        .any(|prefix| path.starts_with(prefix))
}

fn why(path: &RepoPath) -> &'static str {
    match path.kind() {
        Kind::Block(_) => "no index names it",
        Kind::Delta(_) => "no update lists it",
        Kind::Index(..) | Kind::IndexSignature(..) => "no head names it",
        _ => "nothing names it",
    }
}
