//! Splitting: where an image is cut into blocks.
//!
//! The rules are part of the format (`src/doc/split.md`) and frozen by golden tests: an image cut differently shares no
//! blocks with what mirrors already hold. Pure: bytes in and cuts out by calls; no files, no threads, no clock; what
//! `content` reads at other offsets, it reads through [`Lookup`].
//! Invariants: the cuts depend on the bytes alone, not on how they are divided among calls. The state has constant size
//! (at most 5 MiB) whatever the size of the image; beside that of the tables of an ext4 (at most 100 MiB, for a million
//! files).

mod block_buffer;
mod boundaries;
mod bytes;
pub mod choice;
mod claims;
mod clusters;
mod content;
mod cut;
mod ext;
mod files;
mod fixed;
mod gear;
mod holes;
mod lookup;
mod page;
mod pages;
mod paginate;
mod plain;
pub mod rule;
mod splitter;
mod suits;
mod unit;
mod units;

pub use cut::{Cut, Span};
pub use lookup::{Lookup, looks_elsewhere};
pub use splitter::Splitter;

pub use rule::{PageSize, Rule, RuleError};

pub(crate) use page::is_zero;

pub use choice::{Choice, ChoiceError};
pub use pages::count_page_borders;
