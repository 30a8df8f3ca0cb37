//! The path of an image to the mirrors: read, cut, compress, spool, upload.

pub mod congestion;
pub mod cut;
pub mod deliver;
pub mod image;
pub mod remake;
pub mod spool;
pub mod upload;
mod whole_digest;
pub mod workers;
