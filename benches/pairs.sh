#!/usr/bin/env bash
# pairs.sh LAB [FORMAT...] - what an update costs in each format of images, with hfl and with casync.
#
# Makes two Debian roots of about 190 MB in LAB (bookworm as released, and with all updates: systemd, python3, openssh, git),
# and of each an image in every format whose tools are installed; the rest is skipped with a reason. Prints, for each format,
# the blocks of the first version and what the second adds, in MB, with the default rule; with `--split bytes`; and with
# casync (gzip), its chunks tuned to the same number of files after both versions. Then what a client asks for, with the
# default rule and with `bytes`: requests for reading all of the second version in order, and requests and MB for 200 reads
# of 4 KiB at random places of it, on empty caches. Every version is restored and compared.
#
# HFL (target/release/hfl, beside hfl-mount) is the program; HFL_ERASE=1 makes the images anew; HFL_FAST=1 leaves out casync.
# Root, /dev/fuse; Debian 12; mmdebstrap, casync, jq; half an hour for all formats.
set -euo pipefail
shopt -s inherit_errexit
[ $# -ge 1 ] || { echo "usage: pairs.sh LAB [FORMAT...]" >&2; exit 2; }
lab=$(realpath -m "$1")
shift
cd "$(dirname "$0")/.."
[ -n "${HFL:-}" ] || cargo build --quiet --release --bins
hfl=$(realpath "${HFL:-target/release/hfl}")
export SOURCE_DATE_EPOCH=1750000000 E2FSPROGS_FAKE_TIME=1750000000 DEBIAN_FRONTEND=noninteractive
uuid=5d67c791-a884-4f66-8d67-000000000001
PATH=$PATH:/usr/sbin:/sbin
mkdir -p "$lab"
work=$(mktemp -d)
mount -t tmpfs tmpfs "$work"
trap 'umount -l "$work"; rmdir "$work"' EXIT

roots() {
  local archive version sources
  archive=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | sort -u | head -n 1)
  for version in old new; do
    sources=("deb $archive bookworm main")
    [ "$version" = old ] ||
      sources+=("deb $archive bookworm-updates main" "deb ${archive%/}-security bookworm-security main")
    mmdebstrap --quiet --mode=root --variant=minbase --format=tar --include=systemd,systemd-sysv,python3,openssh-server,git \
      --aptopt='APT::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/man/*' \
      --dpkgopt='path-exclude=/usr/share/doc/*' --customize-hook='cd "$1" && rm -rf usr/share/locale usr/share/perl \
        usr/lib/git-core etc/ssh/ssh_host_* var/lib/apt/lists/* var/log/*.log var/cache/apt/*.bin; : >"$1/etc/machine-id"' \
      bookworm "$lab/$version.tar" "${sources[@]}" >/dev/null
  done
}

# The formats: each function makes the image $2 of the tree $1.
ext() { mke2fs -q -F -t ext4 -U $uuid -E "hash_seed=$uuid,lazy_itable_init=0,lazy_journal_init=0,nodiscard" "${@:3}" -d "$1" "$2" 400M; }
mounted() { # TREE IMAGE FSTYPE OPTIONS: an empty file system, filled through a mount
  mkdir -p "$work/mnt"
  mount -t "$3" -o "loop${4:+,$4}" "$2" "$work/mnt" && cp -a "$1/." "$work/mnt/" && umount "$work/mnt"
}
squash() { env -u SOURCE_DATE_EPOCH mksquashfs "$1" "$2" -noappend -quiet -no-progress -mkfs-time $SOURCE_DATE_EPOCH -all-time $SOURCE_DATE_EPOCH "${@:3}" >/dev/null; }
erofs() { mkfs.erofs -T$SOURCE_DATE_EPOCH -U $uuid "${@:3}" "$2" "$1" >/dev/null 2>&1; }
gpt() { # PARTITION IMAGE SFDISK-SCRIPT OFFSET-IN-SECTORS
  truncate -s 480M "$2" && printf '%s\n' "$3" | sfdisk -q "$2" && dd if="$1" of="$2" bs=512 seek="$4" conv=notrunc,sparse status=none
}
make_ext4-4k() { ext "$@" -b 4096; }
make_ext4-2k() { ext "$@" -b 2048; }
make_ext4-1k() { ext "$@" -b 1024; }
make_ext4-inode128() { ext "$@" -b 4096 -I 128; }
make_ext4-nocsum() { ext "$@" -b 4096 -O '^metadata_csum'; }
make_ext4-cp() { truncate -s 400M "$2" && mke2fs -q -F -t ext4 -U $uuid -E "hash_seed=$uuid,lazy_itable_init=0,lazy_journal_init=0" "$2" && mounted "$1" "$2" ext4 ''; }
make_xfs-cp() { truncate -s 400M "$2" && mkfs.xfs -q -m uuid=$uuid "$2" && mounted "$1" "$2" xfs ''; }
make_btrfs-rootdir() { truncate -s 500M "$2" && mkfs.btrfs -q -U $uuid --rootdir "$1" "$2"; }
make_btrfs-cp() { truncate -s 500M "$2" && mkfs.btrfs -q -U $uuid "$2" && mounted "$1" "$2" btrfs ''; }
make_btrfs-zstd() { truncate -s 500M "$2" && mkfs.btrfs -q -U $uuid "$2" && mounted "$1" "$2" btrfs compress=zstd; }
make_f2fs() { truncate -s 500M "$2" && mkfs.f2fs -q "$2" >/dev/null && sload.f2fs -T $SOURCE_DATE_EPOCH -f "$1" "$2" >/dev/null 2>&1; }
make_erofs-plain() { erofs "$@"; }
make_erofs-noinline() { erofs "$@" -Enoinline_data; }
make_erofs-chunks() { erofs "$@" --chunksize=1048576; }
make_erofs-lz4hc() { erofs "$@" -zlz4hc; }
make_erofs-lz4hc-64k() { erofs "$@" -zlz4hc -C65536; }
make_erofs-fragments() { # Version 1.5 ignores the option.
  erofs "$@" -zlz4hc -C65536 -Efragments,dedupe && { (($(od -An -tu4 -j1104 -N4 "$2") & 32)) || { echo "mkfs.erofs knows no fragments"; false; }; }
}
make_erofs-zstd-64k() { erofs "$@" -zzstd -C65536; }
make_squashfs-zstd() { squash "$@" -comp zstd; }
make_squashfs-gzip() { squash "$@" -comp gzip; }
make_squashfs-xz() { squash "$@" -comp xz; }
make_squashfs-lz4() { squash "$@" -comp lz4; }
make_squashfs-zstd-1m() { squash "$@" -comp zstd -b 1M; }
make_squashfs-nofragments() { squash "$@" -comp zstd -no-fragments; }
make_squashfs-plain() { squash "$@" -noI -noD -noF -noX; }
make_gensquashfs() { gensquashfs -q -c zstd --pack-dir "$1" "$2"; }
make_tar2sqfs() { tar --sort=name -C "$1" -cf - . | tar2sqfs -q -f -c zstd "$2"; }
make_iso() { xorriso -as mkisofs -quiet -r -o "$2" "$1" 2>/dev/null; }
make_iso-udf() { genisoimage -quiet -r -udf -o "$2" "$1" 2>/dev/null; }
make_iso-live() {
  rm -rf "$work/iso" && mkdir -p "$work/iso/live" && squash "$1" "$work/iso/live/filesystem.squashfs" -comp zstd &&
    cp "$1/usr/bin/python3.11" "$work/iso/" && find "$work/iso" -exec touch -d @$SOURCE_DATE_EPOCH {} + && make_iso "$work/iso" "$2"
}
make_gpt-esp-ext4() { make_ext4-4k "$1" "$work/part" && gpt "$work/part" "$2" $'label: gpt\nlabel-id: '$uuid$'\n2048,32768,U\n34816,,L' 34816; }
make_gpt-squashfs() { make_squashfs-zstd "$1" "$work/part" && gpt "$work/part" "$2" $'label: gpt\nlabel-id: '$uuid$'\n2048,,L' 2048; }
make_mbr-sector63() { make_ext4-4k "$1" "$work/part" && gpt "$work/part" "$2" $'label: dos\nlabel-id: 0x1\n63,,83' 63; }
make_fat() { truncate -s 400M "$2" && mkfs.vfat -i 12345678 "$2" >/dev/null && mcopy -s -Q -i "$2" "$1"/usr/lib/python3* ::; }

formats=("$@")
[ $# -gt 0 ] || mapfile -t formats < <(declare -F | sed -n 's/^declare -f make_//p')
[ -s "$lab/new.tar" ] || roots
for version in old new; do
  mkdir -p "$work/$version" && tar -C "$work/$version" --numeric-owner -xf "$lab/$version.tar"
done

held() { find "$1" -type f ! -name '*.caibx' -printf '%s\n' | awk '{ bytes += $1 } END { print NR, bytes + 0 }'; } # FILES BYTES

# reads IMAGE - prints what reading the published image asks for: BLOCKS BYTES in order, BLOCKS BYTES of scattered reads.
reads() {
  local pages at how
  pages=$(($(stat -c %s "$1") / 4096))
  mkdir -p "$home/mnt"
  for how in order scattered; do
    HOME=$home XDG_STATE_HOME=$home/state "${hfl%/*}/hfl-mount" "$home/public/os" "$home/mnt" --unsigned --no-cache --no-readahead --quiet >&2
    if [ $how = order ]; then
      cat "$home/mnt/os" | cmp - "$1" >&2
    else
      for at in $(awk -v pages=$pages 'BEGIN { srand(1); for (i = 0; i < 200; i++) print int(rand() * pages) }'); do
        dd if="$home/mnt/os" of=/dev/null bs=4096 skip="$at" count=1 iflag=direct status=none
      done
    fi
    "${hfl%/*}/hfl-mount" status "$home/mnt" --json | jq -r '"\(.fetched_blocks) \(.fetched_bytes)"'
    umount "$home/mnt"
  done
}
# with_hfl FORMAT [OPTION...] - prints FILES BYTES after the first version, then after the second; then the reads.
with_hfl() {
  local format=$1 home=$work/home version
  rm -rf "$home" && mkdir -p "$home"
  for version in old new; do
    HOME=$home XDG_STATE_HOME=$home/state "$hfl" publish "$lab/$version.$format" --name os --unsigned --to "$home/public/" "${@:2}" --quiet >&2
    held "$home/public/blocks"
  done
  reads "$lab/new.$format"
  HOME=$home XDG_STATE_HOME=$home/state "$hfl" restore "$home/public/os" "$home/back" --unsigned --quiet >&2
  cmp "$home/back" "$lab/new.$format" >&2
}
# with_casync FORMAT BYTES - the same with chunks of so many bytes on average.
with_casync() {
  local store=$work/store version
  rm -rf "$store" && mkdir -p "$store"
  for version in old new; do
    casync make --compression=gzip --chunk-size="$2" --store="$store" "$store/$version.caibx" "$lab/$version.$1" >/dev/null
    held "$store"
  done
}
# tuned FORMAT FILES - casync with the chunk size that gives about so many files after both versions.
tuned() {
  local bytes=131072 got found
  for _ in 1 2 3 4 5; do
    found=$(with_casync "$1" $bytes)
    got=$(tail -n 1 <<<"$found" | cut -d' ' -f1)
    ((got * 20 < $2 * 19 || got * 20 > $2 * 21)) || break
    bytes=$((bytes * got / $2))
  done
  echo "$found"
}
row() { printf '| %-20s | %7s | %8s | %6s | %6s | %6s | %9s | %14s | %9s | %14s |\n' "$@"; }
mb() { awk -v after="$2" -v before="$1" 'BEGIN { printf "%.1f", (after - before) / 1e6 }'; }
row format blocks 'and then' update bytes casync all '200 reads' 'bytes: all' '200 reads'
row --- --: --: --: --: --: --: --: --: --:
for format in "${formats[@]}"; do
  for version in old new; do
    [ -z "${HFL_ERASE:-}" ] || rm -f "$lab/$version.$format"
    [ -s "$lab/$version.$format" ] || "make_$format" "$work/$version" "$lab/$version.$format" >"$work/log" 2>&1 || {
      rm -f "$lab/$version.$format"
      echo "$format: skipped: $(tail -n 1 "$work/log")" >&2
      continue 2
    }
  done
  found=$(with_hfl "$format" | paste -sd ' ')
  read -r first before second after all _ some some_bytes <<<"$found"
  found=$(with_hfl "$format" --split bytes | paste -sd ' ')
  read -r _ bytes_before _ bytes_after bytes_all _ bytes_some bytes_some_bytes <<<"$found"
  chunks_before=0 chunks_after=0
  if [ -z "${HFL_FAST:-}" ]; then
    found=$(tuned "$format" "$second" | paste -sd ' ')
    read -r _ chunks_before _ chunks_after <<<"$found"
  fi
  row "$format" "$first" "$((second - first))" "$(mb "$before" "$after")" "$(mb "$bytes_before" "$bytes_after")" \
    "$(mb "$chunks_before" "$chunks_after")" "$all" "$some, $(mb 0 "$some_bytes") MB" "$bytes_all" \
    "$bytes_some, $(mb 0 "$bytes_some_bytes") MB"
done
