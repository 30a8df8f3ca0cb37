//! Splitting: where an image is cut into blocks.
//!
//! How an image is cut is part of the format (`src/doc/split.md`) and frozen by golden tests: another cut of the same
//! image shares no blocks with what mirrors already hold. Pure: bytes come in by calls, cuts go out by calls; no files,
//! no threads, no clock. Invariants: the cuts depend on the bytes alone, not on how they were divided among the calls,
//! and the state has a constant size (at most 4 MiB for `fixed`, about 2 MiB otherwise) whatever the image's.

mod block_buffer;
mod boundaries;
mod bytes;
pub mod choice;
mod cut;
pub mod detect;
mod fixed;
mod gear;
mod page;
mod pages;
mod paginate;
pub mod rule;
mod splitter;

pub use cut::{Cut, Span};
pub use splitter::Splitter;

pub use rule::{Rule, RuleError};

pub use choice::{Choice, ChoiceError};
pub use detect::choose;
pub use pages::count_page_borders;
