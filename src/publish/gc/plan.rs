//! What to remove from each mirror: computed from the facts alone, before anything is removed.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::facts::{Facts, MirrorFacts};
use crate::error::Error;
use crate::format::digest::{BlockId, Sha256};
use crate::format::layout::RepoPath;
use crate::format::retirement::Retirement;

/// The objects to remove.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plan {
    /// Versions past their grace period, as `image version`.
    pub versions: Vec<String>,
    /// Retired versions still in their grace period.
    pub pending: Vec<Pending>,
    /// Number of blocks that nothing names any more.
    pub blocks: u64,
    /// Compressed size of these blocks in bytes, as published.
    pub zlib_bytes: u64,
    /// Number of deltas that nothing names any more.
    pub deltas: u64,
    /// Size of these deltas in bytes.
    pub delta_bytes: u64,
    /// Number of other objects: indexes, signatures, files, records.
    pub files: u64,
    /// The plan for each mirror; if nothing is due, only mirrors in doubt.
    pub mirrors: Vec<MirrorPlan>,
    /// Warnings for the user.
    #[serde(skip)]
    pub warnings: Vec<String>,
    /// The blocks to remove.
    #[serde(skip)]
    pub(super) dead: BTreeSet<BlockId>,
    /// The deltas to remove.
    #[serde(skip)]
    pub(super) dead_deltas: BTreeSet<Sha256>,
}

/// A retired version that has not been removed yet.
#[derive(Debug, Clone, Serialize)]
pub struct Pending {
    /// `image version`.
    pub version: String,
    /// When it may be removed.
    pub after: String,
}

/// What to remove from one mirror, and the result.
#[derive(Debug, Clone, Default, Serialize)]
pub struct MirrorPlan {
    /// Mirror name.
    pub name: String,
    /// Number of objects removed.
    pub removed: u64,
    /// Why nothing, or not everything, was removed there.
    pub why: Option<String>,
    /// Advice for that case.
    pub hint: Option<String>,
    /// Files, then the records that name them: while a record exists, an interrupted run is repeated.
    #[serde(skip)]
    pub(super) files: Vec<RepoPath>,
    /// Whether anything may be removed there.
    #[serde(skip)]
    pub(super) is_clear: bool,
}

impl Plan {
    /// Computes the plan.
    pub(super) fn compute(facts: &Facts) -> Self {
        let mut plan = Self::default();
        let mut due: BTreeMap<&RepoPath, &Retirement> = BTreeMap::new();
        for (path, retirement) in &facts.retirements {
            if facts.due.contains_key(path) {
                due.insert(path, retirement);
            } else if !facts.living_versions.contains(&retirement.row.index_sha256) {
                plan.pending.push(pending(retirement, facts.grace_days));
            }
        }
        plan.warnings = warnings(facts, &due);
        if due.is_empty() {
            let in_doubt = facts.mirrors.iter().filter(|mirror| mirror.doubt.is_some());
            plan.mirrors = in_doubt.map(|mirror| mirror_plan(mirror, facts, &due)).collect();
            return plan;
        }
        plan.versions = due.values().map(|retirement| name(retirement)).collect();
        plan.take_blocks(facts);
        plan.mirrors = facts.mirrors.iter().map(|mirror| mirror_plan(mirror, facts, &due)).collect();
        let files: BTreeSet<&RepoPath> =
            plan.mirrors.iter().filter(|mirror| mirror.is_clear).flat_map(|mirror| &mirror.files).collect();
        plan.files = files.len() as u64;
        plan
    }

    fn take_blocks(&mut self, facts: &Facts) {
        for (id, zlib_bytes) in facts.blocks.iter().filter(|(id, _)| !facts.living_blocks.contains(id)) {
            self.dead.insert(*id);
            self.zlib_bytes += u64::from(*zlib_bytes);
        }
        self.blocks = self.dead.len() as u64;
        let deltas = &facts.deltas.files;
        (self.deltas, self.delta_bytes) = (deltas.len() as u64, deltas.values().map(|&bytes| u64::from(bytes)).sum());
        self.dead_deltas = deltas.keys().copied().collect();
    }

    /// Whether there is nothing to remove.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }

    /// The error to report if something is due but no mirror permits removal.
    pub(super) fn nowhere(&self, facts: &Facts) -> Option<Error> {
        if self.is_empty() || self.mirrors.iter().any(|mirror| mirror.is_clear) {
            return None;
        }
        let (mirror, doubt) = facts.mirrors.iter().find_map(|mirror| Some((mirror, mirror.doubt.as_ref()?)))?;
        let error = Error::new(doubt.kind, format!("mirror {}: {}", mirror.name, doubt.why));
        Some(match &doubt.advice {
            Some(advice) => error.hint(advice),
            None => error,
        })
    }
}

fn name(retirement: &Retirement) -> String {
    format!("{} {}", retirement.image, retirement.row.version)
}

fn pending(retirement: &Retirement, grace_days: u32) -> Pending {
    Pending { version: name(retirement), after: retirement.marked.plus_days(grace_days).to_string() }
}

fn warnings(facts: &Facts, due: &BTreeMap<&RepoPath, &Retirement>) -> Vec<String> {
    let refused = facts.mirrors.iter().flat_map(|mirror| mirror.refused.iter().map(move |refused| (mirror, refused)));
    let refused = refused.map(|(mirror, (path, why))| {
        format!("mirror {}: {path} is not the record of a retired version ({why}); it decides nothing", mirror.name)
    });
    let gone = due.iter().filter(|(path, _)| facts.due.get(**path) == Some(&false));
    let gone = gone.map(|(_, retirement)| format!("no mirror has the index of {}; its blocks stay", name(retirement)));
    let unreadable = facts.unreadable.iter().map(|why| format!("{why}; its blocks are kept for now"));
    let deltas = facts.deltas.warnings.iter().cloned();
    let is_ahead = facts.clock_is_ahead() && facts.grace_days > 0 && !facts.retirements.is_empty();
    let clock = is_ahead.then(|| {
        format!(
            "this machine's clock says {}, all heads were made by {}: no grace period is measured by it; is it right?",
            facts.now, facts.newest_signed
        )
    });
    refused.chain(gone).chain(unreadable).chain(deltas).chain(clock).collect()
}

fn mirror_plan(mirror: &MirrorFacts, facts: &Facts, due: &BTreeMap<&RepoPath, &Retirement>) -> MirrorPlan {
    let mut plan = MirrorPlan {
        name: mirror.name.clone(),
        why: mirror.doubt.as_ref().map(|doubt| doubt.why.clone()),
        hint: mirror.doubt.as_ref().and_then(|doubt| doubt.advice.clone()),
        is_clear: mirror.doubt.is_none(),
        ..MirrorPlan::default()
    };
    let mut files = BTreeSet::new();
    for retirement in due.values() {
        files.extend(files_of(retirement, mirror).filter(|path| !lives(path, facts)));
    }
    plan.files = files.into_iter().collect();
    plan.files.extend(due.keys().map(|path| (*path).clone()));
    plan
}

/// Files published only for this version: those its record names, and others listed under its paths, such as a replaced
/// profile.
fn files_of<'a>(retirement: &'a Retirement, mirror: &'a MirrorFacts) -> impl Iterator<Item = RepoPath> + 'a {
    let listed = mirror.files.get(&(retirement.image.clone(), retirement.row.version));
    retirement.files_and_signatures().chain(listed.into_iter().flatten().cloned())
}

/// Whether this file, or the file that it signs, is live.
fn lives(path: &RepoPath, facts: &Facts) -> bool {
    let signed = path.as_str().strip_suffix(".minisig").and_then(|path| path.parse().ok());
    facts.living_paths.contains(path) || signed.is_some_and(|path| facts.living_paths.contains(&path))
}
