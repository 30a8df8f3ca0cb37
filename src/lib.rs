//! hfl publishes operating system images as deduplicated blocks on ordinary web servers.

pub mod split;
