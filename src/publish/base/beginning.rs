//! Guards the first version of an image: it is allowed only without evidence of an earlier version.
//!
//! A missing head does not prove that none ever existed: a disk may not be mounted, a file may be lost, or the mirror
//! that has the head may be unreachable.

use crate::error::{Error, ErrorKind};
use crate::format::layout::RepoPath;
use crate::format::name::Name;
use crate::publish::repository::locked::LockedImage;
use crate::publish::repository::memory::Remembered;
use crate::publish::repository::mirror::OpenMirror;
use crate::repo::survey::MirrorView;
use crate::repo::survey::numbers::Witness;

impl LockedImage<'_> {
    /// Excludes a directory that is empty although this machine published there: its disk is probably not mounted, and
    /// objects would be written below the mount point.
    pub fn leave_unmounted(&mut self, remembered: &Remembered) {
        if self.repository.config.first || remembered.published.is_none() {
            return;
        }
        let relative_to = self.repository.config.relative_to.clone();
        for (mirror, view) in self.repository.mirrors.iter_mut().zip(&self.repository.views) {
            let is_empty = mirror.is_up() && mirror.head.is_none() && view.is_empty();
            if is_empty && mirror.store.is_local() && remembered.places.contains(&mirror.place(&relative_to)) {
                let message = format!(
                    "{}: nothing is there, though {} was published to it before: is its disk mounted?",
                    mirror.store.location(),
                    self.name
                );
                let hint = "mount it, or fill it anew: hfl publish or hfl sync with --first";
                mirror.fail(Error::new(ErrorKind::Unreachable, message).hint(hint));
            }
        }
    }

    /// Whether one of these mirrors had what was recorded.
    pub fn is_here(&self, remembered: &Remembered) -> bool {
        let relative_to = &self.repository.config.relative_to;
        self.repository.mirrors.iter().any(|m| remembered.places.contains(&m.place(relative_to)))
    }

    /// Refuses a first version if there is evidence of an earlier one.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`], with the evidence.
    pub fn refuse_beginning(
        &self,
        remembered: &Remembered,
        is_here: bool,
        witnesses: &[Option<Witness>],
    ) -> Result<(), Error> {
        let said = match remembered.published {
            Some((version, _)) if is_here => Some(format!("version {version} was published from this machine")),
            _ => self.said_by_mirrors(remembered, witnesses),
        };
        let Some(said) = said else { return Ok(()) };
        let message = format!("{}: no mirror has its head, but {said}", self.name);
        Err(Error::new(ErrorKind::Conflict, message).hint(
            "is a disk not mounted, or a mirror unreachable? restore the head, or use --first to start this image anew \
             with a higher version number",
        ))
    }

    fn said_by_mirrors(&self, remembered: &Remembered, witnesses: &[Option<Witness>]) -> Option<String> {
        let is_begun = remembered.published.is_none() && !remembered.intended.is_empty();
        let mirrors = || self.repository.mirrors.iter().zip(&self.repository.views);
        for ((mirror, view), witness) in mirrors().zip(witnesses) {
            let intended = |(_, digest): &Witness| remembered.intended.iter().any(|(_, other)| other == digest);
            if let Some((version, digest)) = witness.filter(|witness| !intended(witness)) {
                let path = RepoPath::index(&self.name, version, &digest);
                return Some(format!("there is {}/{path}", mirror.store.location()));
            }
            if !is_begun && names(view, mirror, &self.name) {
                return Some(format!("{}/{} names it", mirror.store.location(), RepoPath::images()));
            }
        }
        let is_new = self.signer.key.as_ref().is_some_and(|key| key.is_new());
        let away = mirrors().find_map(|(mirror, _)| Some((mirror.name(), mirror.failed.as_ref()?)));
        away.filter(|_| !is_new && !is_begun).map(|(name, failure)| format!("mirror {name} may: {}", failure.why))
    }
}

fn names(view: &MirrorView, mirror: &OpenMirror, image: &Name) -> bool {
    mirror.is_up() && view.list.names.contains(image)
}
