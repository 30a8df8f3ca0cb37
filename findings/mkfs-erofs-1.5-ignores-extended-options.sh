#!/usr/bin/env bash
# mkfs.erofs 1.5: an extended option (-E) that it does not know is ignored, without a word and with exit code 0.
#
# Version: erofs-utils 1.5-1 (Debian 12).
# Behaviour: -Efragments, -Ededupe and the like came with later versions. Version 1.5 accepts them, as it accepts any other word,
#   and makes the image without them: byte for byte the one that is made without -E. So a recipe that was written for a newer
#   version gives images that are a sixth larger and share other data between builds, and nothing tells why. Newer versions
#   (seen: 1.8.6) end with "unknown extended option" and exit code 1. To be sure, look at the features in the superblock: the
#   32-bit number at byte 1104 of the image has bit 5 with fragments or shared extents.
# Output seen:
#   exit code 0, 0 lines that name the option
#   the images are equal
#   feature bit of fragments: 0
#
# Needs apt-get; liblz4, libselinux and libuuid of the system.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
chmod 755 .
apt-get download -q erofs-utils=1.5-1 >/dev/null 2>&1 || { echo "this version cannot be had" >&2; exit 1; }
dpkg -x erofs-utils_*.deb .

mkdir tree
seq 1 20000 >tree/one
seq 1 20001 >tree/two
# make IMAGE [OPTION...]
make() { usr/bin/mkfs.erofs -zlz4hc -T1 -U 00000000-0000-0000-0000-000000000001 "${@:2}" "$1" tree; }

code=0
make with.img -Efragments,dedupe,no-such-option >said 2>&1 || code=$?
named=$(grep -c -e fragments -e dedupe -e no-such-option said || true)
echo "exit code $code, $named lines that name the option"
[ "$code" = 0 ] && [ "$named" = 0 ] || { echo "it is not ignored in silence" >&2; exit 1; }
make without.img >/dev/null 2>&1
cmp with.img without.img || { echo "the option has an effect" >&2; exit 1; }
echo "the images are equal"
features=$(od -An -tu4 -j1104 -N4 with.img)
echo "feature bit of fragments: $((features >> 5 & 1))"
[ $((features >> 5 & 1)) = 0 ]
