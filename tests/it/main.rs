//! Tests from the outside: the real programs on real images, then the library against plain models.
//!
//! A test whose name begins with `timed_` compares with a clock. Its short form leaves room for what runs beside it; in the
//! long one (`tests/all.sh --full`) it runs alone.

mod boot_build;
mod boot_cow;
mod boot_cross;
mod boot_fixture;
mod boot_hostile;
mod boot_init;
mod boot_kinds;
mod boot_local;
mod boot_publish;
mod boot_published;
mod boot_qemu;
mod boot_try;
mod boot_update;
mod conformance;
mod cross;
mod evil;
mod fixture;
mod format_alloc;
mod format_bad_block;
mod format_bad_head;
mod format_bad_index;
mod format_bad_mirrors;
mod format_bad_signature;
mod format_bad_words;
mod format_delta;
mod format_document;
mod format_fixtures;
mod format_golden;
mod format_layout;
mod format_limits;
mod format_mutate;
mod format_next_year;
mod format_profile;
mod format_roundtrip;
mod hanging;
#[cfg(all(feature = "s3", feature = "webdav", feature = "sftp", feature = "ftp", feature = "rsync"))]
mod kinds;
mod lab;
mod machine;
mod mount_build;
mod mount_cache;
mod mount_cross;
mod mount_device;
mod mount_disk;
mod mount_ends;
mod mount_errors;
mod mount_evil;
mod mount_fetch;
mod mount_fuse;
mod mount_hang;
mod mount_http;
mod mount_kill;
mod mount_map;
mod mount_nbd;
mod mount_network;
mod mount_options;
mod mount_panic;
mod mount_profile;
mod mount_root;
mod mount_rules;
mod mount_source_hang;
mod mount_sources;
mod mount_speed;
mod mount_standing;
mod mount_status;
mod mount_tree;
mod mounting;
mod nbd;
#[allow(dead_code, reason = "each test uses some of it")]
mod proxy;
mod proxy_itself;
mod publish_access;
mod publish_basics;
mod publish_client;
mod publish_costs;
mod publish_damage;
#[cfg(all(feature = "s3", feature = "webdav", feature = "sftp", feature = "ftp", feature = "rsync"))]
mod publish_everywhere;
#[cfg(all(feature = "s3", feature = "webdav", feature = "sftp", feature = "ftp", feature = "rsync"))]
mod publish_faults;
mod publish_full_head;
mod publish_gc;
mod publish_hostile;
mod publish_inputs;
mod publish_keys;
mod publish_kill;
#[cfg(all(feature = "s3", feature = "webdav", feature = "sftp", feature = "ftp", feature = "rsync"))]
mod publish_kill_kinds;
#[cfg(all(feature = "s3", feature = "webdav", feature = "sftp", feature = "ftp", feature = "rsync"))]
mod publish_leases;
#[cfg(all(feature = "s3", feature = "webdav", feature = "sftp", feature = "ftp", feature = "rsync"))]
mod publish_listings;
#[cfg(all(feature = "s3", feature = "webdav", feature = "sftp", feature = "ftp", feature = "rsync"))]
mod publish_locks;
mod publish_mirrors;
mod publish_profile;
mod publish_spool;
mod publish_sync;
mod publish_trust;
mod publish_verify;
#[cfg(all(feature = "s3", feature = "webdav", feature = "sftp", feature = "ftp", feature = "rsync"))]
mod publish_verify_kinds;
mod read_proxy;
mod read_rollback;
mod read_rules;
#[cfg(all(feature = "s3", feature = "webdav", feature = "sftp", feature = "ftp", feature = "rsync"))]
mod relay;
mod restore_outputs;
#[allow(dead_code, reason = "each driver's tests use some of it")]
mod servers;
mod split;
mod store_directory;
#[cfg(feature = "ftp")]
mod store_ftp;
#[cfg(feature = "rsync")]
mod store_rsync;
#[cfg(feature = "s3")]
mod store_s3;
#[cfg(feature = "s3")]
mod store_s3_hostile;
#[cfg(feature = "sftp")]
mod store_sftp;
#[cfg(all(feature = "s3", feature = "sftp"))]
mod store_speed;
#[cfg(feature = "webdav")]
mod store_webdav;
mod tidy;
