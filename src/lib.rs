//! hfl publishes operating system images as deduplicated, compressed blocks on ordinary web servers, and reads them
//! back from there.
//!
//! Each folder is a layer, from the lowest to the highest; a module uses those of its own layer and of lower
//! ones, never of a higher one, and a test keeps it so:
//!
//! | layer | what it is |
//! |---|---|
//! | [`doc`], [`weaken`] | the formats, specified; switches that only a simulation has |
//! | [`mod@format`] | all that a repository is made of. Pure: no files, sockets, clocks or threads |
//! | `error`, [`progress`] | why an operation failed, and what it tells while it works |
//! | [`system`] | what is asked of the operating system: programs, threads, files that are replaced at once |
//! | [`store`] | bytes at relative paths, a driver for each protocol. It knows no block, index or head |
//! | [`config`] | mirrors.toml |
//! | `disk` | what is in an image: partitions and file systems |
//! | [`repo`] | verified objects from a store; [`repo::survey`]: what all mirrors of a repository hold, and whom to trust |
//! | [`split`] | how an image is cut into blocks |
//! | [`boot`] | what a machine starts from, made out of an image |
//! | [`publish`], [`client`] | the operations. What publishes and what mounts do not know each other |
//! | [`qemu`] | boots what was published, in a virtual machine |
//! | the binaries | the only places with command lines, printing and exit codes |

#![warn(missing_docs)]
#![allow(rustdoc::private_intra_doc_links)]

pub mod build_info;
pub mod doc;
#[cfg(feature = "manual")]
pub mod manual;
pub mod weaken;

pub mod format;

mod error;
#[cfg(feature = "publish")]
pub mod progress;

pub mod system;

mod partitions;

pub mod store;

#[cfg(feature = "publish")]
pub mod config;

#[cfg(feature = "publish")]
mod disk;

pub mod repo;

#[cfg(feature = "publish")]
pub mod split;

#[cfg(feature = "publish")]
pub mod boot;

pub mod client;
#[cfg(feature = "publish")]
pub mod publish;

#[cfg(feature = "publish")]
pub mod qemu;

pub use error::{Error, ErrorKind, SCHEMA};
