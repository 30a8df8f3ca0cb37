//! File systems that are read without being mounted.

pub mod erofs;
pub mod ext;
pub mod file_system;
pub mod squash;
