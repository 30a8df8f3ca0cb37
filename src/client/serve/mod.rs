//! Serves an image: through FUSE, through NBD, and its status alongside.

mod fuse;
pub mod metrics;
pub mod mount_point;
pub mod nbd;
pub mod session;
mod status_file;

pub use status_file::STATUS_FILE;
