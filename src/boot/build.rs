//! `hfl boot build`: from an image to a kernel and a miniroot.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::binaries;
use super::kernel::{self, Kernel};
use super::miniroot::{self, Parts, Settings};
use super::modules::{self, Module};
use crate::boot::elf;
use crate::disk::Disk;
use crate::error::Error;
use crate::format::digest::Sha256;

/// What is to be made of which image, and with what.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The image.
    pub image: PathBuf,
    /// Static clients, of which the one for the kernel's machine is taken.
    pub clients: Vec<PathBuf>,
    /// A static busybox.
    pub busybox: Option<PathBuf>,
    /// The machine that the kernel must be for, as `uname -m` says it.
    pub machine: Option<String>,
    /// Modules besides the usual ones.
    pub modules: Vec<String>,
    /// Where the user's own templates are.
    pub templates: Option<PathBuf>,
}

/// All that is needed for a miniroot, taken out of the image and found on this machine.
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
    /// The kernel, as it is in the image.
    pub kernel: Vec<u8>,
    /// The miniroot, compressed.
    pub miniroot: Vec<u8>,
    /// What they are.
    pub summary: Summary,
}

/// What was made.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The kernel's version.
    pub kernel: String,
    /// Where it lies in the image.
    pub kernel_path: String,
    /// The machine it is for.
    pub machine: String,
    /// The root file system's kind.
    pub file_system: String,
    /// Its bytes.
    pub kernel_bytes: u64,
    /// Its SHA-256.
    pub kernel_sha256: String,
    /// Bytes of the miniroot.
    pub miniroot_bytes: u64,
    /// SHA-256 of the miniroot.
    pub miniroot_sha256: String,
    /// The modules in it, in the order in which they are loaded.
    pub modules: Vec<String>,
}

impl Ingredients {
    /// Takes the kernel and its modules out of the image, and finds the programs that fit.
    ///
    /// # Errors
    /// An image that cannot be read or has no kernel; programs that are missing or are for another machine.
    pub fn gather(options: &Options) -> Result<Self, Error> {
        let root = Disk::open(&options.image)?.root()?;
        let kernel = kernel::find(&root)?;
        let modules = modules::collect(&root, &kernel, &options.modules)?;
        let machine = machine(&options.image, &kernel, &modules)?;
        if let Some(wanted) = options.machine.as_deref().filter(|wanted| *wanted != machine) {
            let image = options.image.display();
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

    /// Makes the miniroot.
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

/// The machine of the kernel and all its modules.
fn machine(image: &Path, kernel: &Kernel, modules: &[Module]) -> Result<&'static str, Error> {
    let image = image.display();
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
