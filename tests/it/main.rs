//! Tests from the outside: the programs, real servers, real mounts.

mod fixture;
mod mount_build;
mod mount_disk;
mod mount_ends;
mod mount_errors;
mod mount_fuse;
mod mount_map;
mod mount_rules;
mod mount_seen;
mod mount_sources;
mod mount_tree;
mod mounting;
