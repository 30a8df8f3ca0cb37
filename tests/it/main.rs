//! Tests from the outside: the programs, real servers, real mounts.

mod fixture;
mod mount_cache;
mod mount_client;
mod mount_fuse;
mod mount_map;
mod mount_tree;
