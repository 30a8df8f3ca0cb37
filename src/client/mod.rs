//! The client: an image of a repository as a file, through FUSE.
//!
//! Sources of blocks are wrapped around each other, one concern each, all behind
//! [`BlockSource`](crate::repo::BlockSource): mirror <- [`watched`] <- [`network`] <- [`priority`] <- [`disk`] cache <-
//! [`decoded`] cache <- [`coalesce`] <- the patience of [`network`]. [`image`] reads an image from the outermost,
//! [`readahead`] decides what is fetched in advance, and [`fuse`] and [`nbd`] are thin adapters in front; everything but
//! these and the mount itself works without FUSE.
//!
//! [`record`] notes what a boot reads, [`ahead`] fetches what an earlier one did, and [`priority`] sees to it that nobody
//! waits for that. [`download`] fetches everything; [`kept`] is what makes the cache a mirror, and enough without one.
//!
//! [`status`] says how it goes: through a hidden file of the mount, and to Prometheus through [`metrics`].
//!
//! Nothing is served here that was not checked, and nothing is printed: what there is to tell goes to an
//! [`Observer`](notice::Observer).

pub mod boot_profile;
pub mod cache;
#[cfg(feature = "mount")]
pub mod device;
pub mod download;
pub mod extent_map;
pub mod head;
pub mod image;
pub mod mirrors;
pub mod notice;
mod open;
pub mod prefetch;
#[cfg(feature = "mount")]
pub mod serve;
pub mod source;
pub mod state;
pub mod status;

pub use open::{Client, ClientOptions, open};
