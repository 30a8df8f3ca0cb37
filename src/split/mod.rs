//! Splitting: where an image is cut into blocks.
//!
//! How an image is cut is part of the format (`src/format/split.md`) and frozen by golden tests: another cut of the same
//! image shares no blocks with what mirrors already hold. Pure: bytes come in by calls, cuts go out by calls; no files,
//! no threads, no clock. Invariants: the cuts depend on the bytes alone, not on how they were divided among the calls,
//! and the state has a constant size (at most 4 MiB for `fixed`, about 2 MiB otherwise) whatever the image's.

pub mod rule;

#[cfg(feature = "publish")]
mod border;
#[cfg(feature = "publish")]
mod bytes;
#[cfg(feature = "publish")]
pub mod choice;
#[cfg(feature = "publish")]
pub mod choose;
#[cfg(feature = "publish")]
mod filling;
#[cfg(feature = "publish")]
mod fixed;
#[cfg(feature = "publish")]
mod gear;
#[cfg(feature = "publish")]
mod page;
#[cfg(feature = "publish")]
mod pager;
#[cfg(feature = "publish")]
mod pages;
#[cfg(feature = "publish")]
mod partitions;
#[cfg(feature = "publish")]
mod splitter;
#[cfg(feature = "publish")]
mod superblock;

pub use rule::{Rule, RuleError};

#[cfg(feature = "publish")]
pub use choice::{Choice, ChoiceError};
#[cfg(feature = "publish")]
pub use choose::choose;
#[cfg(feature = "publish")]
pub use pages::count_page_borders;
#[cfg(feature = "publish")]
pub use partitions::{Partition, partitions};
#[cfg(feature = "publish")]
pub use splitter::{Cut, Span, Splitter};
#[cfg(feature = "publish")]
pub use superblock::ReadAt;
