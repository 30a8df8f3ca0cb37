//! What a machine boots from: the kernel of an image, and a miniroot with just what it takes to get to the image's root.
//!
//! Everything comes out of the image itself, without mounting it and without being root, so that kernel, miniroot and
//! root always agree. The same input gives the same bytes. An image is anybody's bytes: sizes, counts and time spent in
//! it are bounded, and nothing of it is ever run.

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

/// The largest kernel or miniroot that is published, in bytes.
pub const FILE_MAX_BYTES: u64 = 256 << 20;
/// The largest file with words for the kernel's command line, in bytes.
pub const CMDLINE_MAX_BYTES: u64 = 4096;
