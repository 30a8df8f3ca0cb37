//! `hfl boot build`: makes a kernel and a miniroot from an image.

use std::path::PathBuf;

use serde::Serialize;

use super::binaries;
use super::kernel::{self, Kernel};
use super::miniroot::{self, Parts, Settings};
use super::modules::{self, Module};
use crate::boot::elf;
use crate::disk::Disk;
use crate::error::Error;
use crate::format::digest::Sha256;

/// Options of a build.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Static clients; the one for the kernel's machine is used.
    pub clients: Vec<PathBuf>,
    /// A static busybox.
    pub busybox: Option<PathBuf>,
    /// Required machine of the kernel, as in `uname -m`.
    pub machine: Option<String>,
    /// Modules in addition to the usual ones.
    pub modules: Vec<String>,
    /// Directory of the user's templates.
    pub templates: Option<PathBuf>,
}

/// Everything needed for a miniroot, from the image and from this machine.
pub struct Ingredients {
    kernel: Kernel,
    machine: &'static str,
    file_system: &'static str,
    modules: Vec<Module>,
    busybox: Vec<u8>,
    client: Vec<u8>,
    templates: Option<PathBuf>,
}

/// A kernel and its miniroot.
#[derive(Debug, Clone)]
pub struct Built {
    /// The kernel, as in the image.
    pub kernel: Vec<u8>,
    /// Compressed miniroot.
    pub miniroot: Vec<u8>,
    /// Summary of both.
    pub summary: Summary,
}

/// Summary of a build.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Kernel version.
    pub kernel: String,
    /// Path of the kernel in the image.
    pub kernel_path: String,
    /// Machine of the kernel.
    pub machine: String,
    /// Type of the root file system.
    pub file_system: String,
    /// Kernel size in bytes.
    pub kernel_bytes: u64,
    /// SHA-256 of the kernel.
    pub kernel_sha256: String,
    /// Miniroot size in bytes.
    pub miniroot_bytes: u64,
    /// SHA-256 of the miniroot.
    pub miniroot_sha256: String,
    /// Modules in the miniroot, in load order.
    pub modules: Vec<String>,
}

impl Ingredients {
    /// Extracts the kernel and its modules from the image, and finds matching programs.
    ///
    /// # Errors
    /// An image that cannot be read or has no kernel; programs that are missing or are for another machine.
    pub fn gather(image: &Disk, options: &Options) -> Result<Self, Error> {
        let root = image.root()?;
        let kernel = kernel::find(&root)?;
        let modules = modules::collect(&root, &kernel, &options.modules)?;
        let machine = machine(image.name(), &kernel, &modules)?;
        if let Some(wanted) = options.machine.as_deref().filter(|wanted| *wanted != machine) {
            let image = image.name();
            return Err(Error::usage(format!("{image}: its kernel {} is for {machine}, not {wanted}", kernel.version)));
        }
        let client = binaries::client(&options.clients, machine)?;
        let busybox = binaries::busybox(options.busybox.as_deref(), machine)?;
        Ok(Self {
            kernel,
            machine,
            file_system: root.file_system(),
            modules,
            busybox: busybox.bytes,
            client: client.bytes,
            templates: options.templates.clone(),
        })
    }

    /// Builds the miniroot.
    ///
    /// # Errors
    /// A template that cannot be rendered; a miniroot that is too large.
    pub fn build(&self, settings: &Settings) -> Result<Built, Error> {
        let parts = Parts {
            kernel: &self.kernel.version,
            modules: &self.modules,
            busybox: &self.busybox,
            client: &self.client,
            templates: self.templates.as_deref(),
        };
        let miniroot = miniroot::build(&parts, settings)?;
        let summary = Summary {
            kernel: self.kernel.version.clone(),
            kernel_path: self.kernel.path.clone(),
            machine: self.machine.to_owned(),
            file_system: self.file_system.to_owned(),
            kernel_bytes: self.kernel.bytes.len() as u64,
            kernel_sha256: Sha256::of(&self.kernel.bytes).to_string(),
            miniroot_bytes: miniroot.len() as u64,
            miniroot_sha256: Sha256::of(&miniroot).to_string(),
            modules: self.modules.iter().map(|module| module.name.clone()).collect(),
        };
        Ok(Built { kernel: self.kernel.bytes.clone(), miniroot, summary })
    }
}

/// The machine of the kernel and of all its modules.
fn machine(image: &str, kernel: &Kernel, modules: &[Module]) -> Result<&'static str, Error> {
    let mut known = kernel.machine();
    for module in modules {
        let found = elf::machine(&module.bytes).ok_or_else(|| {
            Error::local(format!("{image}: module {} is for a machine hfl does not know", module.name))
        })?;
        let machine = *known.get_or_insert(found);
        if machine != found {
            let why = format!("module {} is for {found}, and kernel {} for {machine}", module.name, kernel.version);
            return Err(Error::local(format!("{image}: {why}")));
        }
    }
    known.ok_or_else(|| Error::local(format!("{image}: hfl cannot tell for which machine {} is", kernel.path)))
}
