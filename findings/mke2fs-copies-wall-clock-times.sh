#!/usr/bin/env bash
# mke2fs -d: in spite of E2FSPROGS_FAKE_TIME, the ctime and atime of the source files get into the image.
#
# Version: e2fsprogs and libext2fs2 1.47.0-2+b2 (Debian 12), ext4 with its default features.
# Behaviour: E2FSPROGS_FAKE_TIME replaces the clock of libext2fs: superblock, creation times, root directory. The inodes that -d
#   makes get the mtime, atime and ctime of the source files. A builder can set mtime and atime by touch, but not ctime, which is
#   about the moment at which the tree was unpacked. So one archive, unpacked twice, gives two different images, though contents,
#   mtimes, UUID, hash seed and the faked clock agree: each of these inodes differs in its ctime and its checksum, and so does
#   every page of the inode tables that holds one. Only whole seconds are copied, so a test that makes both images within one
#   second finds them equal. Where reading a file sets its atime (relatime), mke2fs itself does so, and a second image of the
#   same tree differs, too. Cure: set both times of each inode in the finished image, by debugfs with the same
#   E2FSPROGS_FAKE_TIME.
# Output seen (the two values of ctime are those of the run):
#   mtime: 1600000000 and 1600000000
#   crtime: 1700000000 and 1700000000
#   ctime: 1796008059 and 1796008060
#   the images differ
#   after debugfs they are equal
#
# Needs apt-get.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
chmod 755 .
apt-get download -q e2fsprogs=1.47.0-2+b2 libext2fs2=1.47.0-2+b2 libcom-err2=1.47.0-2+b2 libss2=1.47.0-2+b2 >/dev/null 2>&1 ||
  { echo "these versions cannot be had" >&2; exit 1; }
for archive in *.deb; do dpkg -x "$archive" .; done
LD_LIBRARY_PATH=$work/$(dirname lib/*/libext2fs.so.2)
export LD_LIBRARY_PATH
export MKE2FS_CONFIG=$work/etc/mke2fs.conf E2FSPROGS_FAKE_TIME=1700000000

mkdir source source/directory
echo content >source/directory/file
ln -s file source/directory/link
tar -c -f archive.tar -C source directory

# image NAME: unpack the archive, set the times that can be set, make an image.
image() {
  mkdir "$1"
  tar -x -f archive.tar -C "$1"
  find "$1" -depth -exec touch -h -d @1600000000 {} +
  sbin/mke2fs -q -F -t ext4 -U 00000000-0000-0000-0000-000000000001 -E hash_seed=00000000-0000-0000-0000-000000000002 \
    -d "$1" "$1.img" 4M >/dev/null
}
# time_of IMAGE FIELD: a time of the file, in seconds.
time_of() { echo $(($(sbin/debugfs -R 'stat /directory/file' "$1" 2>/dev/null | sed -n "s/^ *$2: \(0x[0-9a-f]*\):.*/\1/p"))); }

image one
sleep 1.1
image two
for field in mtime crtime ctime; do
  echo "$field: $(time_of one.img $field) and $(time_of two.img $field)"
done
for name in one two; do
  [ "$(time_of $name.img mtime)" = 1600000000 ] || { echo "not the mtime of the source" >&2; exit 1; }
  [ "$(time_of $name.img crtime)" = 1700000000 ] || { echo "the clock is not replaced" >&2; exit 1; }
  [ "$(time_of $name.img ctime)" = "$(stat -c %Z $name/directory/file)" ] || { echo "not the ctime of the source" >&2; exit 1; }
done
! cmp -s one.img two.img || { echo "the images are equal" >&2; exit 1; }
echo "the images differ"

# Inodes below 11 are reserved, 11 is lost+found; mke2fs gave those times itself. The three entries have 12 to 14.
for inode in 12 13 14; do
  echo "set_inode_field <$inode> ctime @1600000000"
  echo "set_inode_field <$inode> atime @1600000000"
done >commands
for name in one two; do
  sbin/debugfs -w -f commands $name.img >/dev/null 2>&1
done
cmp one.img two.img
echo "after debugfs they are equal"
