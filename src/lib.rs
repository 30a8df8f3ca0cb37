//! hfl publishes operating system images as deduplicated, compressed blocks on ordinary web servers, and reads them
//! back from there.
//!
//! The layers look down only, and a test keeps it so:
//!
//! - layer 0, the vocabulary: [`block`], [`index`], [`head`], [`profile`], [`layout`], [`delta`], [`split`], [`mirrors`], [`keys`] and
//!   the words they are made of. Pure: no files, sockets, clocks or threads; it fails on bad bytes and nothing else.
//! - layer 1, [`child`]: programs that are started; `bridge`: work that blocks; [`store`]: bytes at relative paths; [`read`] on top of it: verified
//!   objects from a store, and nothing else; [`survey`]: what all mirrors of a repository hold, and whom to trust.
//! - layer 2, [`boot`], what a machine starts from, made out of an image, and the templates that it and others render; above
//!   them [`publish`], and beside them [`mount`]: the operations. What publishes and what mounts do not know each other.
//!   [`emulate`], which boots what was published, uses what they do.
//! - layer 3, the binaries: the only places with command lines, printing and exit codes.

#![warn(missing_docs)]

pub mod block;
mod bridge;
pub mod child;
pub mod delta;
pub mod digest;
#[cfg(feature = "publish")]
pub mod elf;
pub mod doc;
pub mod head;
pub mod image_list;
pub mod index;
pub mod keys;
pub mod layout;
#[cfg(feature = "publish")]
pub mod mirrors;
pub mod name;
pub mod profile;
pub mod read;
#[cfg(feature = "publish")]
pub mod retirement;
#[cfg(feature = "publish")]
pub mod sign;
#[cfg(feature = "publish")]
pub mod split;
pub mod store;
#[cfg(feature = "publish")]
pub mod survey;
#[cfg(feature = "publish")]
mod template;
mod text;
pub mod time;
pub mod url;
pub mod weaken;

pub use text::FormatError;

#[cfg(feature = "publish")]
pub mod boot;
#[cfg(feature = "publish")]
pub mod emulate;
#[cfg(feature = "mount")]
pub mod mount;
#[cfg(feature = "publish")]
pub mod publish;
