//! Which modules a miniroot has, where the image's kernel has them as modules at all.
//!
//! In this order they are loaded, each after those that it needs. What is not there is left out: some kernel has it built
//! in, another one was made for other machines.

/// What has to work before anything can be read: one of each line must be there, built in or as a module.
pub const REQUIRED: [&[&str]; 3] = [&[CLIENT], &["loop"], &["dm_snapshot", "overlay"]];

/// File systems that cannot be written to, and what makes a root of them all the same.
pub const READ_ONLY: [&str; 2] = ["squashfs", "erofs"];
pub const OVERLAY: [&str; 1] = ["overlay"];

/// The modules that are loaded first, by what they are for: those of all network cards are among them.
pub const FIRST: &[&[&str]] = &[
    // Checksums, which others ask for by another name than their module's.
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

/// The last of the modules that have to be there before the client can start; the init goes on as soon as it is, and names
/// it too (templates/boot/init).
pub const CLIENT: &str = "fuse";

/// Those that may come while the network does.
pub const REST: &[&[&str]] = &[
    // The image.
    &["loop"],
    &["dm_mod", "dm_bufio", "dm_snapshot"],
    // Its file system.
    &["mbcache", "jbd2", "ext4", "overlay", "squashfs", "erofs"],
    // Disks for the snapshot, the cache and swap.
    &["virtio_blk", "virtio_scsi", "sd_mod", "ahci", "nvme", "ps3disk", "ibmvscsi"],
];
