//! Modules that a miniroot contains, if the image's kernel has them as modules.
//!
//! They are loaded in this order, each after its dependencies. A module that does not exist is skipped: some kernels
//! have it built in, others are for other machines.

/// Modules needed to read anything: one of each group must exist, built in or as a module.
pub const REQUIRED: [&[&str]; 3] = [&[CLIENT], &["loop"], &["dm_snapshot", "overlay"]];

/// Read-only file systems, and the module that makes a writable root of them.
pub const READ_ONLY: [&str; 2] = ["squashfs", "erofs"];
pub const OVERLAY: [&str; 1] = ["overlay"];

/// Modules loaded first, grouped by purpose: those of all network cards are among them.
pub const FIRST: &[&[&str]] = &[
    // Checksums, which others request by a name that is not their module's.
    &["crc32c_generic", "crc32c_intel", "crc32c_arm64", "crc32c_vpmsum", "crc32c", "crc16", "libcrc32c"],
    // Buses of virtual machines.
    &["virtio_pci", "virtio_mmio", "virtio_ccw", "hv_vmbus"],
    // Network cards: of virtual machines, of common boards, of the PlayStation 3 and of POWER.
    &["virtio_net", "vmxnet3", "hv_netvsc", "xen_netfront", "ena", "gve", "ibmveth", "ps3_gelic", "spidernet"],
    &[
        "realtek", "broadcom", "r8169", "8139cp", "8139too", "e100", "e1000", "e1000e", "igb", "igc", "tg3", "pcnet32",
        "sky2",
    ],
    &["af_packet", "unix"],
];

/// The last module needed before the client can start. The init goes on as soon as it is loaded, and names it too
/// (templates/boot/init).
pub const CLIENT: &str = "fuse";

/// Modules that may be loaded while the network comes up.
pub const REST: &[&[&str]] = &[
    // For the image.
    &["loop"],
    &["dm_mod", "dm_bufio", "dm_snapshot"],
    // For its file system.
    &["mbcache", "jbd2", "ext4", "overlay", "squashfs", "erofs"],
    // Disks for the snapshot, the cache and swap.
    &["virtio_blk", "virtio_scsi", "sd_mod", "ahci", "nvme", "ps3disk", "ibmvscsi"],
];
