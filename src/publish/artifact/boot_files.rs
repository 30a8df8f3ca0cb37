//! Boot files of a version: `boot/NAME/VERSION/{vmlinuz,initrd.img,cmdline}-DIGITS`, immutable, named by the head.
//!
//! The miniroot accepts no version older than its own as the newest (rollback protection), so each version has its own
//! miniroot. The publisher's additions to the kernel command line are stored there too: menus are rendered again with
//! each head.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::boot::{self, FILE_MAX_BYTES, Ingredients, Settings};
use crate::disk::Disk;
use crate::disk::input::Input;
use crate::error::Error;
use crate::format::digest::Sha256;
use crate::format::head::{FileRow, Head};
use crate::format::layout::{BootFile, RepoPath};
use crate::format::name::{Name, Version};
use crate::format::signature::PublicKey;
use crate::format::signing::SecretKey;
use crate::publish::base::Base;
use crate::publish::object::Object;
use crate::publish::repository::mirror::{self, OpenMirror};
use crate::publish::repository::options::BootOptions;

/// Limit of the additions to a command line, in bytes.
const APPEND_MAX_BYTES: usize = 1024;

/// Kernel, miniroot and command line of an image, from which the files of a version are built.
pub struct BootFiles {
    source: Source,
    append: String,
}

enum Source {
    Given { kernel: Bytes, miniroot: Bytes },
    Image(Box<Ingredients>),
}

impl BootFiles {
    /// Reads the directory, or extracts everything from the image; `clients` and `templates` are those of mirrors.toml.
    ///
    /// # Errors
    /// Missing files, an image without a kernel, text that is not allowed on a command line.
    pub fn gather(
        options: &BootOptions,
        image: &Arc<Input>,
        clients: Vec<PathBuf>,
        templates: Option<PathBuf>,
    ) -> Result<Self, Error> {
        check_append(&options.append)
            .map_err(|why| Error::usage(format!("--boot-append `{}`: {why}", options.append)))?;
        let source = match &options.directory {
            Some(directory) => Source::Given {
                kernel: load(directory, BootFile::Kernel)?,
                miniroot: load(directory, BootFile::Miniroot)?,
            },
            None => {
                let (busybox, modules) = (options.busybox.clone(), options.modules.clone());
                let wanted = boot::Options { clients, busybox, machine: None, modules, templates };
                Source::Image(Box::new(Ingredients::gather(&Disk::of(Arc::clone(image)), &wanted)?))
            }
        };
        Ok(Self { source, append: options.append.clone() })
    }

    /// Builds the boot files of one version.
    ///
    /// # Errors
    /// A template that cannot be rendered, a miniroot that is too large.
    pub fn of(&self, image: &Name, version: Version, key: Option<&PublicKey>) -> Result<Vec<Object>, Error> {
        let (kernel, miniroot) = match &self.source {
            Source::Given { kernel, miniroot } => (kernel.clone(), miniroot.clone()),
            Source::Image(_) if key.is_none() => {
                return Err(Error::usage("--boot needs a signing key: the miniroot must pin one"));
            }
            Source::Image(ingredients) => {
                let settings = Settings {
                    name: Some(image.clone()),
                    mirrors: Vec::new(),
                    key: key.cloned(),
                    min_version: Some(version),
                };
                let built = ingredients.build(&settings)?;
                (built.kernel.into(), built.miniroot.into())
            }
        };
        let cmdline = Bytes::from(format!("{}\n", self.append));
        let files = [(BootFile::Kernel, kernel), (BootFile::Miniroot, miniroot), (BootFile::Cmdline, cmdline)];
        let object = |(file, bytes): (BootFile, Bytes)| {
            Object::new(RepoPath::boot_file(image, version, file, &Sha256::of(&bytes)), bytes)
        };
        Ok(files.into_iter().map(object).collect())
    }
}

/// Whether the head names exactly these files.
pub fn are_named(head: &Head, files: &[Object]) -> bool {
    files.iter().all(|file| head.files.contains(&file.row()))
}

/// Lists the files in a head, replacing other boot files of its newest version.
pub fn put_rows(head: &mut Head, files: &[Object]) {
    let (image, version) = (head.image.clone(), head.newest().version);
    let is_replaced = |row: &FileRow| BootFile::ALL.iter().any(|&file| row.path.is_boot_file_of(&image, version, file));
    head.files.retain(|row| files.is_empty() || !is_replaced(row));
    head.files.extend(files.iter().map(Object::row));
    head.files.sort_by(|a, b| a.path.cmp(&b.path));
}

/// The files, each preceded by its signature if the image is signed.
///
/// # Errors
/// A key that cannot sign.
pub fn signed(files: &[Object], key: Option<&SecretKey>) -> Result<Vec<Object>, Error> {
    let mut objects = Vec::new();
    for file in files {
        objects.extend(file.clone().with_signature(key)?);
    }
    Ok(objects)
}

/// The boot files of an old version, for an identical new one; empty if the old one has none.
///
/// # Errors
/// A file of which no mirror has an intact copy.
pub async fn again(base: &Base, mirrors: &[OpenMirror], old: Version, new: Version) -> Result<Vec<Object>, Error> {
    let Some(head) = &base.head else { return Ok(Vec::new()) };
    let mut files = Vec::new();
    for file in BootFile::ALL {
        let Some(row) = head.boot_file(old, file) else { return Ok(Vec::new()) };
        let path = RepoPath::boot_file(&head.image, new, file, &row.sha256);
        files.push(Object::new(path, mirror::file(mirrors, row, FILE_MAX_BYTES).await?));
    }
    Ok(files)
}

/// Checks that a text is safe on a kernel command line in the files of every boot loader: none of them quotes it.
///
/// # Errors
/// The reason why it is not.
pub fn check_append(text: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || " -._~+,=:@/%[]*^!".contains(c);
    match text.chars().find(|&c| !plain(c)) {
        Some(c) => Err(format!("{c:?} means something to some boot loader")),
        None if text.len() > APPEND_MAX_BYTES => Err(format!("longer than {APPEND_MAX_BYTES} bytes")),
        None => Ok(()),
    }
}

fn load(directory: &Path, file: BootFile) -> Result<Bytes, Error> {
    let path = directory.join(file.name());
    let bytes = std::fs::metadata(&path).map_err(|e| {
        Error::io(&path, &e)
            .hint("--boot=DIRECTORY is what hfl boot build --out makes; --boot alone makes it of the image")
    })?;
    match bytes.len() {
        1..=FILE_MAX_BYTES if bytes.is_file() => Ok(std::fs::read(&path).map_err(|e| Error::io(&path, &e))?.into()),
        _ => Err(Error::local(format!("{}: empty, too large, or no file", path.display()))),
    }
}
