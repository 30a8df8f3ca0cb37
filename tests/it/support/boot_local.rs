//! Baseline for boot times: a machine that boots the same image from a local disk, with the kernel and
//! modules published for it.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use crate::support::boot_fixture::booted_with;
use crate::support::boot_published::{KERNEL_WORDS, as_drive};
use crate::support::lab::Lab;
use crate::support::machine::Machine;

/// A cpio archive with one file, appended to a miniroot: the kernel unpacks both, and the last file of a
/// name wins.
fn archive_with_init(script: &str) -> Vec<u8> {
    let entry = |name: &str, mode: u32, data: &[u8]| {
        let fields = [1, mode, 0, 0, 1, 0, data.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        let mut out = b"070701".to_vec();
        fields.iter().for_each(|field| write!(out, "{field:08x}").unwrap());
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    };
    [entry("init", 0o100_755, script.as_bytes()), entry("TRAILER!!!", 0, b"")].concat()
}

/// Loads the miniroot's modules and mounts the disk, without network or client.
const LOCAL_INIT: &str = "#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
while read -r name path; do /bin/busybox insmod $path 2>/dev/null; done </hfl/modules
until [ -b /dev/vda ]; do /bin/busybox sleep 0.1; done
/bin/busybox mkdir -p /root
/bin/busybox mount -t ext4 /dev/vda /root
/bin/busybox umount /sys /proc
/bin/busybox mount -o move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
";

/// A machine that boots `image` from a disk. Version 1 of the image is published in the lab's mirror `a`
/// as `small`.
pub fn machine(lab: &Lab, image: &Path) -> Machine {
    let miniroot = fs::read(booted_with(&lab.path("a/boot/small/1"), "initrd.img")).unwrap();
    let mut both = miniroot;
    both.resize(both.len().next_multiple_of(4), 0);
    both.extend(archive_with_init(LOCAL_INIT));
    let initrd = lab.write("local.img", both);
    let kernel = booted_with(&lab.path("a/boot/small/1"), "vmlinuz");
    let drive = format!("{},snapshot=on", as_drive(image));
    let options = ["-kernel", kernel.to_str().unwrap(), "-initrd", initrd.to_str().unwrap(), "-append", KERNEL_WORDS];
    Machine::start(1024, &[&options[..], &["-drive", &drive]].concat())
}
