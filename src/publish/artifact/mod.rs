//! Files published beside blocks and indexes: client programs, profiles, boot files, pages.

pub mod boot_files;
pub mod boot_menu;
pub mod client;
pub mod pages;
pub mod profile;
pub mod sums;
