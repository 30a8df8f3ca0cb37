//! SHA-256 digests of whole images, as notes: `sha256 VERSION HEX`.
//!
//! No reader needs them: they are for people who check a restored image with other programs.

#[cfg(feature = "publish")]
use super::NOTES_MAX;
use super::{Head, Note};
use crate::format::digest::Sha256;
use crate::format::name::Version;

/// Key of these notes.
const KEY: &str = "sha256";

impl Head {
    /// The SHA-256 of the image of a version, if it was published with one.
    pub fn image_sha256(&self, version: Version) -> Option<Sha256> {
        self.notes.iter().filter_map(parse).find(|(of, _)| *of == version).map(|(_, sha256)| sha256)
    }

    /// The digests of images, newest version first.
    pub fn image_digests(&self) -> Vec<(Version, Sha256)> {
        let mut digests: Vec<_> = self.notes.iter().filter_map(parse).collect();
        digests.sort_unstable_by_key(|(version, _)| std::cmp::Reverse(*version));
        digests
    }

    /// Sets the SHA-256 of the image of a version. In a head that is full of notes it replaces that of the oldest
    /// version; without room it is left out.
    #[cfg(feature = "publish")]
    pub fn set_image_sha256(&mut self, version: Version, sha256: Sha256) {
        keep(&mut self.notes, |of| of != version);
        if self.notes.len() == NOTES_MAX {
            let Some(&(oldest, _)) = self.image_digests().last() else { return };
            keep(&mut self.notes, |of| of != oldest);
        }
        self.notes.extend(format!("{KEY} {version} {sha256}").parse::<Note>());
        self.notes.sort();
    }

    /// Drops the digests of versions that the head does not list.
    #[cfg(feature = "publish")]
    pub fn drop_other_image_digests(&mut self) {
        keep(&mut self.notes, |version| self.versions.iter().any(|row| row.version == version));
    }
}

/// Drops the digests of the images of other versions than these.
#[cfg(feature = "publish")]
fn keep(notes: &mut Vec<Note>, is_kept: impl Fn(Version) -> bool) {
    notes.retain(|note| parse(note).is_none_or(|(version, _)| is_kept(version)));
}

/// The version and digest of such a note; `None` for any other, which stays as it is.
fn parse(note: &Note) -> Option<(Version, Sha256)> {
    let (version, sha256) = note.value().split_once(' ').filter(|_| note.key() == KEY)?;
    Some((version.parse().ok()?, sha256.parse().ok()?))
}
