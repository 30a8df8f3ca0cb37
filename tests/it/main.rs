//! Tests from the outside: the real programs on real images, then the library against plain models.

mod fixture;
mod lab;
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
mod publish_basics;
mod publish_damage;
mod publish_inputs;
mod publish_kill;
mod split;
