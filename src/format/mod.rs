//! The formats of a repository: blocks, indexes, heads, records, paths, and the fields they consist of.
//!
//! Pure: nothing here opens a file, reads a clock or starts a thread.

pub mod block;
pub mod comment;
pub mod difference;
pub mod digest;
pub mod head;
pub mod image_list;
pub mod index;
pub mod layout;
#[cfg(feature = "publish")]
pub mod lock;
pub mod name;
pub mod profile;
#[cfg(feature = "publish")]
pub mod retirement;
pub mod signature;
#[cfg(feature = "publish")]
pub mod signing;
pub(crate) mod text;
pub mod time;
pub mod units;
pub mod update;
pub mod url;

pub use text::FormatError;
