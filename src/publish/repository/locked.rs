//! An image of an open repository, with the head that each locked mirror has of it.

use std::sync::Arc;

use super::OpenRepository;
use super::mirror::{OpenMirror, Presence};
use super::signer::Signer;
use crate::error::{Error, ErrorKind};
use crate::format::head::Trust;
use crate::format::layout::RepoPath;
use crate::format::name::Name;
use crate::progress::Event;
use crate::repo::survey::HeadState;

/// An image, on mirrors that are locked (in a dry run: that are only read).
pub struct LockedImage<'a> {
    pub repository: &'a mut OpenRepository,
    pub name: Name,
    pub signer: Signer,
}

impl<'a> LockedImage<'a> {
    /// Takes the heads of image `name` from the survey.
    ///
    /// # Errors
    /// No mirror is left; the image is signed and this signer has no key; no mirror has a head that verifies although
    /// some have one.
    pub fn new(repository: &'a mut OpenRepository, name: Name, signer: Signer) -> Result<Self, Error> {
        if let Some(warning) = signer.key.as_ref().and_then(|k| k.warning.as_deref()) {
            repository.watch.progress.event(Event::Warning(warning));
        }
        let mut image = Self { repository, name, signer };
        image.take_heads()?;
        image.repository.all_failed().map_or(Ok(()), Err)?;
        let is_signed = |m: &OpenMirror| m.head.as_ref().is_some_and(|found| found.signed);
        if image.signer.trust == Trust::Anyone && image.repository.mirrors.iter().any(is_signed) {
            let message = format!("{} is signed on these mirrors; it cannot go on unsigned", image.name);
            return Err(Error::new(ErrorKind::Unverified, message).hint("give its key with --key or HFL_KEY"));
        }
        Ok(image)
    }

    /// Takes the heads of this image from the survey. A head that does not verify excludes only its mirror, as long as
    /// another mirror has one that does.
    fn take_heads(&mut self) -> Result<(), Error> {
        let (name, mut refused) = (&self.name, None);
        for (mirror, view) in self.repository.mirrors.iter_mut().zip(&self.repository.views) {
            (mirror.head, mirror.presence, mirror.is_current) = (None, Presence::Unlikely, false);
            if !mirror.is_up() {
                continue;
            }
            if let Some(flaw) = &view.list.flaw {
                let error = unverified(mirror, &RepoPath::images(), &flaw.what);
                mirror.fail(error.hint("the list holds one name a line; correct it by hand"));
                continue;
            }
            match view.heads.get(name) {
                None | Some(HeadState::Absent) => {}
                Some(HeadState::Verified(head)) => mirror.head = Some(Arc::clone(head)),
                Some(HeadState::Unreadable(e)) => mirror.fail(e.clone().into()),
                Some(HeadState::Damaged(flaw, _) | HeadState::Foreign(_, flaw, _)) => {
                    let error = unverified(mirror, &RepoPath::head(name), &flaw.what);
                    refused = Some(error.clone());
                    mirror.fail(error);
                }
            }
        }
        match refused {
            // With `--first` the user accepts this; otherwise one mirror could block a name on all mirrors.
            Some(e) if !self.repository.config.first && self.repository.mirrors.iter().all(|m| m.head.is_none()) => {
                let advice = format!(
                    "{name} is published here with another key, or its head is damaged; give its key with --key or \
                     HFL_KEY, or use --first to start it on the mirrors that have none"
                );
                Err(e.hint(advice))
            }
            _ => Ok(()),
        }
    }
}

fn unverified(mirror: &OpenMirror, path: &RepoPath, why: &str) -> Error {
    Error::new(ErrorKind::Unverified, format!("{}/{path}: {why}", mirror.store.location()))
}
