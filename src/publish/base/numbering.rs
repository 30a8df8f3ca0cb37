//! The number of the next version. No number is ever used twice: clients refuse a lower number than they saw, and other
//! contents under the same number.

use super::Base;
use crate::error::{Error, ErrorKind};
use crate::format::layout::RepoPath;
use crate::format::name::Version;
use crate::publish::repository::locked::LockedImage;
use crate::publish::repository::memory::Remembered;
use crate::publish::repository::mirror::{self, OpenMirror};
use crate::publish::repository::{HEADS_PATIENCE, LISTING_PATIENCE};
use crate::repo::survey::numbers::{self, Witness};
use crate::repo::survey::{Inventory, MirrorView};
use crate::store::StoreErrorKind;
use crate::system::bridge;
use crate::weaken::{self, Weakness};

/// The highest number accepted from an unverified index name: half of the number space.
const HINT_MAX: u32 = u32::MAX / 2;

impl LockedImage<'_> {
    /// Determines the highest number ever used from this machine's record and from the indexes on the mirrors; refuses
    /// to start an existing image anew.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if there is no head but evidence of an earlier one.
    pub async fn take_numbers(&mut self, base: &mut Base, remembered: &Remembered) -> Result<(), Error> {
        if weaken::is(Weakness::Numbers) {
            return Ok(());
        }
        self.list_indexes(base).await;
        let witnesses = self.witnesses(base).await;
        self.refuse_older(base, remembered, &witnesses);
        let is_here = self.is_here(remembered);
        if self.signer.is_signed() || is_here {
            base.highest = base.highest.max(remembered.highest());
        }
        if base.head.is_none() && !self.repository.config.first {
            self.refuse_beginning(remembered, is_here, &witnesses)?;
        }
        let proven = witnesses.iter().flatten().map(|(version, _)| *version).max();
        base.highest = base.highest.max(proven);
        if base.head.is_none() {
            base.highest = base.highest.max(self.hinted());
        }
        Ok(())
    }

    /// The highest number in the name of any listed index, verified or not. An image that is started anew can skip
    /// numbers, but must not use up all of them.
    fn hinted(&self) -> Option<Version> {
        let views = self.repository.views.iter();
        let listed = views.filter_map(|view| view.inventory.indexes.get(&self.name)).flat_map(|listed| listed.values());
        listed.copied().filter(|version| version.number() <= HINT_MAX).max()
    }

    /// For each mirror, the highest verified index that is later than what any head names.
    async fn witnesses(&mut self, base: &Base) -> Vec<Option<Witness>> {
        let accepted = self.repository.policy.of(&self.name);
        let head = base.head.as_ref();
        let looks = self.repository.mirrors.iter().zip(&self.repository.views).map(|(mirror, view)| {
            let listed = view.inventory.indexes.get(&self.name).filter(|_| mirror.is_up());
            numbers::highest(&*mirror.store, &self.name, listed, head, &accepted)
        });
        let patience = self.repository.patience(HEADS_PATIENCE);
        let found = bridge::in_time(looks, patience, Result::is_ok).await;
        let mut witnesses = vec![None; found.len()];
        for (i, found) in mirror::settle(&mut self.repository.mirrors, 0.., found, patience) {
            witnesses[i] = found;
        }
        witnesses
    }

    /// Lists the indexes on mirrors without a head that are about to get one, unless listed already.
    async fn list_indexes(&mut self, base: &Base) {
        if base.head.is_none() {
            return;
        }
        let (name, mirrors) = (&self.name, &self.repository.mirrors);
        let is_wanted = |mirror: &OpenMirror, view: &MirrorView| {
            mirror.is_up() && mirror.head.is_none() && !view.inventory.indexes.contains_key(name)
        };
        let wanted: Vec<usize> =
            (0..mirrors.len()).filter(|&i| is_wanted(&mirrors[i], &self.repository.views[i])).collect();
        let lists = wanted.iter().map(|&i| async move {
            match Inventory::of_indexes(&*mirrors[i].store, name).await {
                // A mirror that permits no listing provides no evidence.
                Err(e) if e.kind() != StoreErrorKind::Unreachable => Ok(Inventory::default()),
                listed => listed,
            }
        });
        let patience = self.repository.patience(LISTING_PATIENCE);
        let lists = bridge::in_time(lists, patience, Result::is_ok).await;
        for (i, listed) in mirror::settle(&mut self.repository.mirrors, wanted, lists, patience) {
            self.repository.views[i].inventory.indexes.extend(listed.indexes);
        }
    }

    /// Handles mirrors that lost the head of a later version than any head names, or of another version with the same
    /// number. They must not get an existing version: clients that saw the lost one would refuse it. The next version
    /// resolves this if it can be signed; otherwise the mirror is excluded.
    fn refuse_older(&mut self, base: &mut Base, remembered: &Remembered, witnesses: &[Option<Witness>]) {
        let Some(newest) = base.head.as_ref().map(|head| head.newest()) else { return };
        let is_newer = |(version, digest): &Witness| {
            *version > newest.version || (*version == newest.version && *digest != newest.index_sha256)
        };
        let (name, can_sign, relative_to) = (&self.name, self.signer.can_sign(), &self.repository.config.relative_to);
        for (mirror, witness) in self.repository.mirrors.iter_mut().zip(witnesses) {
            if !mirror.is_up() || mirror.head.is_some() {
                continue;
            }
            let location = mirror.store.location();
            let had = remembered.published.filter(|_| remembered.places.contains(&mirror.place(relative_to)));
            let what = match (witness, had.filter(is_newer)) {
                (Some((version, digest)), _) => {
                    format!("there is {location}/{}", RepoPath::index(name, *version, digest))
                }
                (_, Some((version, _))) => {
                    format!("version {version} of {name} was published from this machine, also to {location} before")
                }
                _ => continue,
            };
            let what = format!("{what}, and no mirror has a head that names it");
            if can_sign {
                base.conflict.get_or_insert(what);
            } else {
                let hint =
                    "wait for the mirror that has it, or publish with the secret key: the next version resolves this";
                mirror.fail(Error::new(ErrorKind::Conflict, what).hint(hint));
            }
        }
    }
}
