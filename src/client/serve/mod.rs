//! How an image is given to others: through FUSE, through NBD, and what is said of it meanwhile.

mod fuse;
pub mod metrics;
pub mod mounted;
pub mod nbd;
pub mod point;
mod reports;

pub use reports::STATUS_FILE;
