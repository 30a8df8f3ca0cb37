//! The local mirror: an image's head, index, their signatures and its profile, each at its path on a mirror.
//!
//! With them the directory of the disk cache is a mirror that may lack blocks. It can be served to others, and it opens
//! the image when no mirror can be reached. Only verified files are stored, and the head last, because it names the
//! others.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use sha2::Digest as _;

use crate::format::comment;
use crate::format::digest::Sha256;
use crate::format::head::{Trust, VersionRow};
use crate::format::layout::RepoPath;
use crate::format::name::Name;
use crate::format::signature::{SIGNATURE_MAX_BYTES, Signature};
use crate::repo::{OpenOptions, Opened, ReadError};
use crate::store::Fetch;
use crate::store::directory::Directory;
use crate::system::atomic_file::replace;

/// Indexes kept per image.
const INDEXES_KEPT: usize = 4;
/// A longer list of images is replaced instead of extended.
const IMAGES_MAX_BYTES: u64 = 1 << 20;

/// The directory of a disk cache, as a mirror.
#[derive(Debug, Clone)]
pub struct LocalMirror {
    directory: PathBuf,
}

impl LocalMirror {
    /// The local mirror in `directory`.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// The directory as a store.
    pub fn store(&self) -> Arc<dyn Fetch> {
        Arc::new(Directory::new(&self.directory))
    }

    fn path(&self, path: &RepoPath) -> PathBuf {
        self.directory.join(path.as_str())
    }

    /// Stores a verified file, unless it is already there. Blocks the thread.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn keep_file(&self, path: &RepoPath, bytes: &[u8]) -> io::Result<()> {
        let place = self.path(path);
        if is_there(&place, bytes.len() as u64, &Sha256::of(bytes)) { Ok(()) } else { replace(&place, bytes) }
    }

    /// Whether the index of this version is stored. Blocks the thread.
    pub fn has_index(&self, image: &Name, row: &VersionRow) -> bool {
        std::fs::symlink_metadata(self.path(&row.index_path(image))).is_ok_and(|m| m.len() == row.index_bytes)
    }

    /// Stores the index and the head of an open image. Blocks the thread.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn keep(&self, opened: &Opened) -> io::Result<()> {
        let image = &opened.head.image;
        let index = opened.row.index_path(image);
        if !is_there(&self.path(&index), opened.row.index_bytes, &opened.row.index_sha256) {
            replace(&self.path(&index), &opened.index.to_bytes())?;
        }
        self.drop_old_indexes(&index);
        self.add_image(image)?;
        let head = self.path(&RepoPath::head(image));
        match is_there(&head, opened.head_file.len() as u64, &Sha256::of(&opened.head_file)) {
            true => Ok(()),
            false => replace(&head, &opened.head_file),
        }
    }

    /// Stores the signature of the index, if one of `stores` has a good one; it is not needed to read the image.
    pub async fn keep_signature(&self, stores: &[Arc<dyn Fetch>], opened: &Opened, trust: &Trust) {
        let path = opened.row.index_path(&opened.head.image).signature();
        let kept = self.store().get(&path, SIGNATURE_MAX_BYTES as u64).await;
        if kept.is_ok_and(|file| Signature::of_file(&file).is_some()) {
            return;
        }
        for store in stores {
            let Ok(file) = store.get(&path, SIGNATURE_MAX_BYTES as u64).await else { continue };
            if is_signature_of(&file, opened, trust) {
                let (kept, path) = (self.clone(), path.clone());
                let _ = tokio::task::spawn_blocking(move || kept.keep_file(&path, &file)).await;
                return;
            }
        }
    }

    /// Adds the image to the list of images.
    fn add_image(&self, image: &Name) -> io::Result<()> {
        let place = self.path(&RepoPath::images());
        let text = match std::fs::symlink_metadata(&place).is_ok_and(|m| m.is_file() && m.len() <= IMAGES_MAX_BYTES) {
            true => std::fs::read_to_string(&place).unwrap_or_default(),
            false => String::new(),
        };
        let mut names: BTreeSet<Name> = text.lines().filter_map(|line| line.parse().ok()).collect();
        if !names.insert(image.clone()) {
            return Ok(());
        }
        let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
        replace(&place, lines.as_bytes())
    }

    /// Removes the oldest indexes; other processes may still need the most recent few.
    fn drop_old_indexes(&self, newest: &RepoPath) {
        let newest = self.path(newest);
        let Some(entries) = newest.parent().and_then(|directory| std::fs::read_dir(directory).ok()) else { return };
        let indexes = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "idx") && *path != newest);
        let age = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut indexes: Vec<(SystemTime, PathBuf)> = indexes.map(|path| (age(&path), path)).collect();
        indexes.sort_unstable_by(|a, b| b.cmp(a));
        for (_, path) in indexes.into_iter().skip(INDEXES_KEPT - 1) {
            let _ = std::fs::remove_file(path.with_extension("idx.minisig"));
            let _ = std::fs::remove_file(&path);
        }
    }

    /// Opens the image from the local mirror, which holds copies from the mirrors in `places`.
    ///
    /// # Errors
    /// The image is not stored, or not accepted.
    pub async fn open(&self, options: &OpenOptions, places: Vec<String>) -> Result<Opened, ReadError> {
        let options = OpenOptions { cached_from: Some(places), ..options.clone() };
        crate::repo::open(&[self.store()], &options).await
    }
}

/// Whether the file exists with this content: after a power cut, its length proves nothing.
fn is_there(place: &Path, bytes: u64, sha256: &Sha256) -> bool {
    let is_file = std::fs::symlink_metadata(place).is_ok_and(|m| m.is_file() && m.len() == bytes);
    is_file && digest_of(place, bytes).is_ok_and(|found| found == *sha256)
}

/// SHA-256 of the first `bytes` of a file.
fn digest_of(place: &Path, bytes: u64) -> io::Result<Sha256> {
    let (mut file, mut digest) = (File::open(place)?.take(bytes), sha2::Sha256::new());
    let mut piece = vec![0; 64 << 10];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(Sha256(digest.finalize().into())),
            read => digest.update(&piece[..read]),
        }
    }
}

fn is_signature_of(file: &[u8], opened: &Opened, trust: &Trust) -> bool {
    let Some(signature) = Signature::of_file(file) else { return false };
    let row = &opened.row;
    let comment = comment::index(&opened.head.image, row.version, &row.index_sha256);
    match trust {
        Trust::Anyone => true,
        Trust::Key(key) => key.verify(&opened.index.to_bytes(), &signature, &comment).is_ok(),
    }
}
