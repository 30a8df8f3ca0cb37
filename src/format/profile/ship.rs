//! Profiles in publishing: which one a new version is shipped with, and its row in the head.
//!
//! Decisions only; nothing is read or written here.

use super::Profile;
use crate::format::head::FileRow;
use crate::format::index::Index;
use crate::format::name::{Name, Version};

/// A profile of another image than the published one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is a profile of image {found}, not of {expected}")]
pub struct WrongImage {
    /// The image of the profile.
    pub found: Name,
    /// The published image.
    pub expected: Name,
}

impl Profile {
    /// The profile for the version of `new`: the `given` one, or else the `previous` version's, carried over from the
    /// index in `held` that it was recorded with. Without that index, or if it is that of `new` itself, blocks that are
    /// gone are replaced by those at the offset where they were read. `None` if there is no profile, or nothing of it
    /// is left.
    ///
    /// # Errors
    /// When the given profile is of another image.
    pub fn for_version<'a>(
        given: Option<&Self>,
        previous: Option<&Self>,
        held: impl IntoIterator<Item = &'a Index>,
        new: &Index,
    ) -> Result<Option<Self>, WrongImage> {
        let image = &new.header().image;
        if let Some(other) = given.filter(|given| given.image != *image) {
            return Err(WrongImage { found: other.image.clone(), expected: image.clone() });
        }
        let Some(profile) = given.or(previous.filter(|previous| previous.image == *image)) else { return Ok(None) };
        let old = held.into_iter().find(|index| index.header().version == profile.version);
        let carried = profile.carry(old.unwrap_or(new), new);
        Ok(Some(carried).filter(|carried| !carried.reads.is_empty()))
    }
}

/// Inserts `row` as the profile of `version` into `files` of a head of `image`, in place of any other profile of that
/// version; the files stay sorted.
pub fn put_row(files: &mut Vec<FileRow>, image: &Name, version: Version, row: FileRow) {
    files.retain(|file| !file.path.is_profile_of(image, version));
    let place = files.partition_point(|file| file.path < row.path);
    files.insert(place, row);
}
