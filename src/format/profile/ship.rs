//! What a publisher does with profiles: which one a new version is shipped with, and how a head names it.
//!
//! Decisions alone; nothing is read or written here.

use super::Profile;
use crate::format::head::FileRow;
use crate::format::index::Index;
use crate::format::name::{Name, Version};

/// A profile of another image than the one that it is to be shipped with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is a profile of image {found}, not of {expected}")]
pub struct WrongImage {
    /// The image that it is of.
    pub found: Name,
    /// The one that is published.
    pub expected: Name,
}

impl Profile {
    /// The profile for the version of `new`: the `given` one, or else the `previous` version's, carried over from the
    /// index in `held` that it was made for. Without that index, or where it is that of `new` itself, blocks that are
    /// gone are looked for where they were read. `None` where there is neither, or nothing of it is left.
    ///
    /// # Errors
    /// When the given one is of another image.
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

/// Has `files`, those of a head of `image`, name `row` as the profile of `version`, in place of any other of that
/// version; they stay sorted.
pub fn put_row(files: &mut Vec<FileRow>, image: &Name, version: Version, row: FileRow) {
    files.retain(|file| !file.path.is_profile_of(image, version));
    let place = files.partition_point(|file| file.path < row.path);
    files.insert(place, row);
}
