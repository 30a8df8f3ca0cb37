//! A bootable version: its kernel, its miniroot and the publisher's additions to the command line.

use std::sync::Arc;

use bytes::Bytes;

use crate::boot::{CMDLINE_MAX_BYTES, FILE_MAX_BYTES, Menu};
use crate::error::Error;
use crate::format::layout::BootFile;
use crate::format::name::{Name, Version};
use crate::format::url::UrlError;
use crate::repo::{self, Opened};
use crate::store::Fetch;

/// A published version and its boot files, all verified.
#[derive(Debug)]
pub struct Bootable {
    /// The opened version.
    pub opened: Opened,
    /// Kernel image.
    pub kernel: Bytes,
    /// Miniroot archive.
    pub miniroot: Bytes,
    append: String,
}

impl Bootable {
    /// Fetches the boot files of an opened version.
    ///
    /// # Errors
    /// A version without a kernel; a file without an intact copy on any store.
    pub async fn load(stores: &[Arc<dyn Fetch>], opened: Opened) -> Result<Self, Error> {
        let (image, number) = (&opened.head.image, opened.row.version);
        let row = |file| opened.head.boot_file(number, file);
        let (Some(kernel), Some(miniroot)) = (row(BootFile::Kernel), row(BootFile::Miniroot)) else {
            return Err(Error::local(format!("version {number} of {image} was published without a kernel"))
                .hint("publish it with --boot"));
        };
        let kernel = repo::file_from(stores, kernel, FILE_MAX_BYTES).await?;
        let miniroot = repo::file_from(stores, miniroot, FILE_MAX_BYTES).await?;
        let append = match row(BootFile::Cmdline) {
            Some(row) => repo::file_from(stores, row, CMDLINE_MAX_BYTES).await?,
            None => Bytes::new(),
        };
        let append = String::from_utf8_lossy(&append).trim().to_owned();
        Ok(Self { opened, kernel, miniroot, append })
    }

    /// Image name.
    pub fn image(&self) -> &Name {
        &self.opened.head.image
    }

    /// Version number.
    pub fn number(&self) -> Version {
        self.opened.row.version
    }

    /// The kernel command line of the boot menus, with this mirror only.
    ///
    /// # Errors
    /// A command line that is too long.
    pub fn arguments(&self, mirror: &str) -> Result<String, Error> {
        let mirror = mirror.parse().map_err(|e: UrlError| Error::local(format!("{mirror}: {e}")))?;
        let menu = Menu { image: self.image().clone(), mirrors: vec![mirror], entries: Vec::new() };
        menu.arguments(self.number(), &self.append)
    }
}
