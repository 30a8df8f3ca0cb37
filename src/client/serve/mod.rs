//! How an image is given to others: through FUSE, through NBD, and what is said of it meanwhile.

mod fuse;
pub mod metrics;
pub mod mount_point;
pub mod nbd;
pub mod session;
mod status_file;

pub use status_file::STATUS_FILE;
