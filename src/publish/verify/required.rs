//! What the mirrors together must hold: every image, its newest head, and the heads each mirror must satisfy.
//!
//! No I/O: it takes what was read, and finds problems in the heads and the lists of images.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::findings::{Finding, Object};
use crate::format::layout::RepoPath;
use crate::format::name::Name;
use crate::repo::survey::{Flaw, HeadState, MirrorView, ProblemKind, VerifiedHead, head};

/// The images of a repository and their newest heads.
#[derive(Debug, Default)]
pub struct RequiredHeads {
    /// The newest verified head of each image that has one.
    pub newest: BTreeMap<Name, Arc<VerifiedHead>>,
    /// The images that are checked, with or without a verified head.
    pub images: BTreeSet<Name>,
    /// Why readers refuse the newest head of an image, for images where they do.
    pub refused: BTreeMap<Name, String>,
    /// Images without a verified head and without a known key.
    pub unchecked: BTreeSet<Name>,
}

impl RequiredHeads {
    /// The images found on the mirrors; `own` returns whether a key is known here for an image.
    pub fn of<'a>(
        shown: impl Iterator<Item = &'a MirrorView> + Clone,
        own: impl Fn(&Name) -> bool,
        wanted: impl Fn(&Name) -> bool,
    ) -> Self {
        let names: BTreeSet<&Name> = shown.clone().flat_map(|view| view.heads.keys()).filter(|n| wanted(n)).collect();
        let mut required = Self::default();
        for name in names {
            let states = || shown.clone().filter_map(|view| view.heads.get(name));
            let newest = head::newest(states().filter_map(HeadState::verified));
            let foreign = states().any(|state| matches!(state, HeadState::Foreign(..)));
            if newest.is_none() && foreign && !own(name) {
                required.unchecked.insert(name.clone());
                continue;
            }
            required.newest.extend(newest.map(|believed| (name.clone(), Arc::clone(believed))));
            required.images.insert(name.clone());
        }
        required
    }

    /// The heads whose promises a mirror must keep: its own, or the newest one if its own is damaged or lost.
    pub fn duties(&self, view: &MirrorView) -> Vec<Arc<VerifiedHead>> {
        let duties = self.images.iter().filter_map(|name| match view.heads.get(name)? {
            HeadState::Verified(own) => Some(Arc::clone(own)),
            HeadState::Absent if !view.list.names.contains(name) => None,
            HeadState::Absent | HeadState::Damaged(..) | HeadState::Foreign(..) | HeadState::Unreadable(_) => {
                self.newest.get(name).cloned()
            }
        });
        duties.collect()
    }

    /// Problems in a mirror's list of images and in its heads.
    pub fn judge(&self, view: &MirrorView) -> Vec<Finding> {
        let mut findings: Vec<Finding> = self.judge_list(view).into_iter().collect();
        for name in &self.images {
            let Some(state) = view.heads.get(name) else { continue };
            findings.extend(self.judge_head(name, state, view.list.names.contains(name)));
        }
        if let Some(e) = &view.unlisted {
            let what = format!("cannot be listed ({}); every block was asked for instead", e.why());
            findings.extend("blocks".parse().map(|path| Finding::stored(path, unreadable(what), None)).ok());
        }
        findings
    }

    fn judge_list(&self, view: &MirrorView) -> Option<Finding> {
        let list = &view.list;
        let here = |name: &&Name| view.heads.get(*name).is_some_and(|state| !matches!(state, HeadState::Absent));
        let here: BTreeSet<Name> = self.images.iter().filter(here).cloned().collect();
        let left_out: Vec<&str> = here.difference(&list.names).map(Name::as_str).collect();
        let flaw = match (&list.flaw, &list.file, &left_out[..]) {
            (Some(flaw), ..) => flaw.clone(),
            (None, _, []) => return None,
            (None, None, _) => Flaw::new(ProblemKind::Missing, "not there, though there are heads"),
            (None, Some(_), names) => {
                let what = format!("leaves out {}, of which there is a head here", names.join(", "));
                Flaw::new(ProblemKind::Wrong, what)
            }
        };
        let names = list.names.union(&here).cloned().collect();
        // A list too long to read is not replaced: names in it would be lost.
        let readable = list.file.is_some() || list.flaw.is_none();
        let object = readable.then(|| Object::Images { old: list.file.clone(), names });
        Some(Finding::stored(RepoPath::images(), flaw, object))
    }

    fn judge_head(&self, name: &Name, state: &HeadState, listed: bool) -> Option<Finding> {
        let newest = self.newest.get(name);
        let found = |flaw, object| Some(Finding::stored(RepoPath::head(name), flaw, object));
        let mendable = |old| Some(Object::Head { image: name.clone(), old });
        match state {
            HeadState::Absent if listed => {
                let what = match newest {
                    Some(_) => "not there, though `images` names it",
                    None => "not there, though `images` names it: it was never published to the end",
                };
                found(Flaw::new(ProblemKind::Missing, what), mendable(None))
            }
            HeadState::Absent => {
                let version = newest?.head.newest().version;
                let what = format!("has nothing of this image, of which there is version {version}; run hfl sync");
                found(Flaw::new(ProblemKind::Behind, what), None)
            }
            HeadState::Verified(own) => {
                let newest = newest?;
                let conflict = head::conflict(&own.head, &newest.head);
                let refused = self.refused.get(name).map(|why| Flaw::new(ProblemKind::Refused, why));
                found(conflict.or_else(|| head::behind(&own.head, &newest.head)).or(refused)?, None)
            }
            HeadState::Damaged(flaw, Some(old)) => {
                let cut = newest.is_some_and(|newest| newest.file.len() > old.len() && newest.file.starts_with(old));
                let flaw = if cut { truncated(old.len(), newest?.file.len()) } else { flaw.clone() };
                found(flaw, mendable(Some(old.clone())))
            }
            HeadState::Damaged(flaw, None) => found(flaw.clone(), None),
            HeadState::Unreadable(e) => found(Flaw::of(e.clone()).ok()?, None),
            HeadState::Foreign(_, flaw, old) => found(flaw.clone(), mendable(Some(old.clone()))),
        }
    }
}

fn unreadable(what: String) -> Flaw {
    Flaw::new(ProblemKind::Unreadable, what)
}

fn truncated(bytes: usize, of: usize) -> Flaw {
    Flaw::new(ProblemKind::Truncated, format!("{bytes} of {of} bytes"))
}
