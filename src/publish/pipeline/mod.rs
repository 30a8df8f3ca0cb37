//! An image on its way to the mirrors: read, cut, compressed, spooled, sent.

pub mod congestion;
pub mod cut;
pub mod deliver;
pub mod foreign;
pub mod image;
pub mod input_check;
pub mod remake;
pub mod spool;
pub mod upload;
pub mod workers;
