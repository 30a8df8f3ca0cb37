//! The client: reads an image of a repository, as a file through FUSE, as an NBD export, or into the disk cache.
//!
//! Block sources wrap each other, one concern each, all behind [`BlockSource`](crate::repo::BlockSource). From the
//! mirrors to the reader: mirror, deadline, [`observed`](source::observed) failures, hedging by the
//! [ranking](source::mirrors), [demand](prefetch::scheduler) tracking, [deltas](source::deltas), [disk
//! cache](source::disk_cache), [memory cache](source::memory_cache), [`coalesce`](source::coalesce), retry. [`image`]
//! reads from the outermost, and [`prefetch`] decides what is fetched in advance. `serve` has the thin adapters for FUSE
//! and NBD; everything else works without FUSE.
//!
//! [`record`](prefetch::record) notes what a boot reads, [`profile`](prefetch::profile) prefetches what an earlier boot
//! read, and the [scheduler](prefetch::scheduler) keeps demand reads ahead of that. [`download`] fetches everything.
//! The [local mirror](state::local_mirror) makes the cache a mirror, which also works offline.
//!
//! [`status`] is served through a hidden file of the mount, and to Prometheus.
//!
//! Only verified data is served, and nothing is printed: notices go to an [`Observer`](notice::Observer).

pub mod boot_profile;
pub mod cache;
#[cfg(feature = "mount")]
pub mod device;
pub mod download;
pub mod extent_map;
pub mod head;
pub mod image;
pub mod mirrors;
pub mod newer;
pub mod notice;
mod open;
pub mod prefetch;
#[cfg(feature = "mount")]
pub mod serve;
pub mod source;
pub mod state;
pub mod status;
mod updates;

pub use open::{Client, ClientOptions, open};
