//! What a machine boots from: the kernel of an image, and a miniroot with just enough to reach the image's root.
//!
//! Everything comes from the image itself, without mounting it and without root privileges, so that kernel, miniroot
//! and root always match. The same input gives the same bytes. An image is untrusted: sizes, counts and time spent in
//! it are bounded, and nothing in it is ever run.

mod binaries;
mod build;
mod cpio;
mod decompress;
pub mod elf;
mod kernel;
mod loaders;
mod miniroot;
mod module_list;
mod modules;
pub mod template;
mod versions;

pub use build::{Built, Ingredients, Options, Summary};
pub use kernel::machine;
pub use loaders::{Entry, Menu, render as render_loaders};
pub use miniroot::Settings;

pub use crate::disk::Disk;

/// Maximum size of a published kernel or miniroot, in bytes.
pub const FILE_MAX_BYTES: u64 = 256 << 20;
/// Maximum size of a file with kernel command line arguments, in bytes.
pub const CMDLINE_MAX_BYTES: u64 = 4096;
