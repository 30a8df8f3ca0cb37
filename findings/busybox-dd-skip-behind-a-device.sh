#!/usr/bin/env bash
# busybox dd: `skip=` behind the end of a block device reads the whole device first, one block of `bs=` at a time.
#
# Version: busybox-static 1:1.35.0-4+deb12u1+b1 (Debian 12), on a loop device.
# Behaviour: dd asks to seek to the place. On a file that works wherever it is, and dd ends at once. On a block device the
#   kernel refuses to seek behind the end (EINVAL), and dd falls back to reading and dropping all that lies before the
#   place, as for a pipe. With bs=1, the way to look at a few bytes of a superblock, that is a system call for every byte of
#   the device: 4 s for 8 MiB, hours for a disk, and then it says `0+0 records in` and exits with 0. A script that looks
#   for a signature at a fixed place has to compare the place with the size of the device first.
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
