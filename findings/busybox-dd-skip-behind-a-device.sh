#!/usr/bin/env bash
# busybox dd: with `skip=` beyond the end of a block device, dd first reads the whole device, in blocks of `bs=`.
#
# Version: busybox-static 1:1.35.0-4+deb12u1+b1 (Debian 12), on a loop device.
# Behaviour: dd tries to seek to the position. On a regular file the seek always succeeds, and dd ends at once. On a block
#   device the kernel rejects a seek beyond the end (EINVAL), and dd falls back to reading and discarding everything before
#   the position, as for a pipe. With bs=1, as used to read a few bytes of a superblock, this costs one system call per byte
#   of the device: 4 s for 8 MiB, hours for a disk. dd then prints `0+0 records in` and exits with 0. A script that looks for
#   a signature at a fixed position must therefore compare the position with the size of the device first.
# Output seen (reads of 1 byte, file and device of 1 MiB each, skip=134217784 count=2):
#   file: 0 reads too many
#   device: more than 1048576 reads
#
# Needs root, a loop device, apt-get.
set -euo pipefail
work=$(mktemp -d)
device=
trap '[ -z "$device" ] || losetup -d "$device"; rm -rf "$work"' EXIT
cd "$work"
chmod 755 .
apt-get download -q busybox-static=1:1.35.0-4+deb12u1+b1 >/dev/null 2>&1 || { echo "this version of busybox-static cannot be had" >&2; exit 1; }
dpkg -x busybox-static_*.deb .

# reads FILE: how many system calls that read a dd of two bytes far behind the end of it makes.
reads() {
  bash -c './bin/busybox dd if="$1" of=/dev/null bs=1 skip=134217784 count=2 2>/dev/null; awk "/^syscr/ { print \$2 }" "/proc/$$/io"' reads "$1"
}

head -c 1048576 /dev/zero >file
device=$(losetup -f --show file)
[ "$(reads file)" -lt 1000 ] || { echo "a file is read, too" >&2; exit 1; }
echo "file: 0 reads too many"
[ "$(reads "$device")" -ge 1048576 ] || { echo "a device is no longer read" >&2; exit 1; }
echo "device: more than 1048576 reads"
