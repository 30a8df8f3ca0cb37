//! The profile shipped with a version: the one the user gives, else one that the repository holds already.
//!
//! A given profile is checked before any mirror is contacted, and a problem with it is an error. A profile from a
//! mirror is optional: if it cannot be read, the new version has none, and a warning is reported.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::format::head::FileRow;
use crate::format::index::Index;
use crate::format::name::{Name, Version};
use crate::format::profile::{FILE_MAX_BYTES, Profile};
use crate::format::signing::SecretKey;
use crate::progress::{Event, Progress};
use crate::publish::base::Base;
use crate::publish::object::Object;
use crate::publish::repository::mirror::{self, OpenMirror};

/// A profile given by the user, and its path.
#[derive(Debug, Clone)]
pub struct Given {
    path: PathBuf,
    profile: Profile,
}

/// The candidates for the profile of a version.
#[derive(Debug, Default)]
pub struct Profiles {
    /// The profile given by the user.
    pub given: Option<Given>,
    /// The profile carried over if none is given.
    pub previous: Option<Profile>,
}

/// A profile ready to be published.
#[derive(Debug)]
pub struct Shipped {
    /// Its row in the head.
    pub row: FileRow,
    /// Number of blocks in it.
    pub blocks: u64,
    file: Object,
}

impl Given {
    /// Reads the profile at `path`, which must belong to `image`.
    ///
    /// # Errors
    /// A file that cannot be read, is too large, is not a profile, or belongs to another image.
    pub fn read(path: &Path, image: &Name) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(|e| Error::io(path, &e))?;
        file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| Error::io(path, &e))?;
        let refused = |why: String| Error::local(format!("{}: {why}", path.display()));
        let profile = Profile::parse(&bytes)
            .map_err(|e| refused(e.to_string()).hint("a profile is what `hfl-mount --record FILE` writes"))?;
        if profile.image() != image {
            return Err(refused(format!("this is a profile of image {}, not of {image}", profile.image()))
                .hint("record one while this image is mounted, or say --name"));
        }
        Ok(Self { path: path.to_owned(), profile })
    }
}

impl Profiles {
    /// The profile for the new version with index `new`.
    ///
    /// # Errors
    /// No block of the given profile is in the image.
    pub fn of_new(&self, base: &Base, new: &Index) -> Result<Option<Shipped>, Error> {
        match &self.given {
            Some(given) => given.ship(base, new).map(Some),
            None => Ok(ship(None, self.previous.as_ref(), base, new)),
        }
    }

    /// The profile for a newest version that is kept: only a given one.
    ///
    /// # Errors
    /// Those of [`Profiles::of_new`].
    pub fn of_kept(&self, base: &Base) -> Result<Option<Shipped>, Error> {
        let (Some(given), Some(newest)) = (&self.given, base.newest()) else { return Ok(None) };
        given.ship(base, newest).map(Some)
    }
}

impl Given {
    fn ship(&self, base: &Base, new: &Index) -> Result<Shipped, Error> {
        let path = self.path.display();
        ship(Some(&self.profile), None, base, new)
            .ok_or_else(|| Error::local(format!("{path}: none of its blocks are in this image, nor in their places")))
    }
}

fn ship(given: Option<&Profile>, previous: Option<&Profile>, base: &Base, new: &Index) -> Option<Shipped> {
    let held = base.indexes.iter().map(|(_, index)| &**index);
    // Only a profile of another image is refused; it counts as none.
    let profile = Profile::for_version(given, previous, held, new).ok().flatten()?;
    let (row, bytes) = profile.to_file();
    let file = Object::new(row.path.clone(), bytes);
    Some(Shipped { row, blocks: profile.reads().len() as u64, file })
}

impl Shipped {
    /// The file, preceded by its signature if the repository is signed.
    ///
    /// # Errors
    /// A key that cannot sign.
    pub fn objects(self, key: Option<&SecretKey>) -> Result<Vec<Object>, Error> {
        Ok(self.file.with_signature(key)?.collect())
    }
}

/// The profile of the first of these versions that has one, from any mirror with an intact copy.
pub async fn held(
    base: &Base,
    mirrors: &[OpenMirror],
    versions: &[Version],
    progress: &dyn Progress,
) -> Option<Profile> {
    let head = base.head.as_ref()?;
    let row = versions.iter().find_map(|version| Profile::row_in(head, *version))?;
    let file = mirror::file(mirrors, row, FILE_MAX_BYTES).await.map_err(|e| e.to_string());
    match file.and_then(|file| Profile::parse(&file).map_err(|e| format!("{}: {e}", row.path))) {
        Ok(profile) => Some(profile),
        Err(why) => {
            progress.event(Event::Warning(&format!("{why}; the new version has no profile")));
            None
        }
    }
}
