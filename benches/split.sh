#!/usr/bin/env bash
# split.sh LAB KIND... - compares the splitters with casync, on the images that benches/images.sh made in
# LAB/KIND.
#
# Bytes to upload are zlib bytes of new blocks, by libdeflate level 6. casync's new chunks are compressed
# in the same way, so that only the cuts are compared; the gzip files that casync really adds to its
# store are larger, and are shown too. casync's mean chunk size is searched until the new image has as
# many different chunks as hfl has blocks, within 5 %. The floor is the zlib bytes of each file whose
# contents the old root did not have; excess is the amount above it. Exits with 1 if a figure misses its
# target. Needs casync, and 4 GB for its stores.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: split.sh LAB KIND..." >&2; exit 2; }
lab=$(realpath "$1")
shift
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0

measure() { nice -n 5 cargo bench --quiet --no-default-features --features publish --bench split -- "$@"; }
field() { awk -v name="$1" '{ for (i = 1; i < NF; i++) if ($i == name) print $(i + 1) }'; }
mb() { awk -v bytes="$1" 'BEGIN { printf "%.1f", bytes / 1e6 }'; }
excess() { if [ -n "$floor" ]; then mb $((upload - floor)); else echo -; fi; }
row() { printf '%-40s %8s %8s %8s %10s %10s\n' "$@"; }

verdict() { # verdict TEXT LEFT RIGHT: passes if LEFT <= RIGHT
  local word=PASS
  awk -v left="$2" -v right="$3" 'BEGIN { exit !(left <= right) }' || { word=FAIL; failed=1; }
  echo "$word  $1: $2 <= $3"
}

# hfl NAME RULE OLD NEW - prints a row; sets blocks and upload.
hfl() {
  local line
  line=$(measure cost "$2" "$3" "$4")
  blocks=$(field blocks <<<"$line") upload=$(field upload <<<"$line")
  row "$1" "$blocks" "$(field mean <<<"$line")" "$(field new <<<"$line")" "$(mb "$upload")" "$(excess)"
}

# store CHUNK COMPRESSION IMAGE - adds an image to the store; prints the number of its files and their
# bytes.
store() {
  nice -n 5 casync make --compression="$2" --chunk-size="$1" --store="$scratch/store" \
    "$scratch/index.caibx" "$3" >/dev/null
  find "$scratch/store" -type f -printf '%s\n' | awk '{ bytes += $1 } END { print NR, bytes }'
}

# chunk_size BLOCKS IMAGE - finds the mean chunk size that cuts an image into this many different chunks;
# sets chunk and chunks.
chunk_size() {
  chunk=$(($(du -B1 "$2" | cut -f1) / $1))
  for _ in 1 2 3 4 5 6 7 8; do
    rm -rf "$scratch/store"
    read -r chunks _ < <(store "$chunk" zstd "$2")
    awk -v a="$chunks" -v b="$1" 'BEGIN { exit !(a >= 0.95 * b && a <= 1.05 * b) }' && return
    chunk=$((chunk * chunks / $1))
  done
  echo "split.sh: found no chunk size that cuts $2 into $1 chunks; the last had $chunks" >&2
  exit 1
}

# casync_like BLOCKS OLD NEW - prints two rows; sets upload.
casync_like() {
  local before after added
  chunk_size "$1" "$3"
  rm -rf "$scratch"/{store,chunks}
  before=$(store "$chunk" gzip "$2")
  touch "$scratch/between"
  after=$(store "$chunk" gzip "$3")
  added=$((${after% *} - ${before% *})) upload=$((${after#* } - ${before#* }))
  row "casync --chunk-size=$chunk, its files" "$chunks" - "$added" "$(mb "$upload")" "$(excess)"
  mkdir "$scratch/chunks"
  find "$scratch/store" -type f -newer "$scratch/between" | while read -r file; do
    gzip -dc <"$file" >"$scratch/chunks/$(basename "$file")"
  done
  tar -C "$scratch" -cf "$scratch/chunks.tar" chunks
  tar -C "$scratch" -cf "$scratch/none.tar" -T /dev/null
  upload=$(measure floor "$scratch/none.tar" "$scratch/chunks.tar" | field floor)
  row "the same chunks, libdeflate" "$chunks" - "$(find "$scratch/chunks" -type f | wc -l)" "$(mb "$upload")" "$(excess)"
}

rebuilt() { # rebuilt DIR
  local fixed_blocks pages_blocks pages_excess
  hfl 'new.img, fixed' fixed "$1/old.img" "$1/new.img"
  fixed_blocks=$blocks
  hfl 'new.img, pages' pages "$1/old.img" "$1/new.img"
  pages_blocks=$blocks pages_excess=$((upload - floor))
  casync_like "$pages_blocks" "$1/old.img" "$1/new.img"
  verdict 'pages: excess, a quarter of casync' "$pages_excess" "$(((upload - floor) / 4))"
  verdict 'pages: blocks of new.img, fixed' "$pages_blocks" "$fixed_blocks"
}

kept() { # kept DIR - the image that was upgraded in place; what changed in it has no floor
  local fixed_blocks fixed_upload
  floor=
  hfl 'inplace.img, fixed' fixed "$1/old.img" "$1/inplace.img"
  fixed_blocks=$blocks fixed_upload=$upload
  hfl 'inplace.img, pages' pages "$1/old.img" "$1/inplace.img"
  verdict 'pages: blocks of inplace.img, fixed' "$blocks" "$fixed_blocks"
  verdict 'pages: upload of inplace.img, fixed' "$upload" "$fixed_upload"
  hfl 'old.img, fixed' fixed /dev/null "$1/old.img"
  fixed_blocks=$blocks
  hfl 'old.img, pages' pages /dev/null "$1/old.img"
  verdict 'pages: blocks of old.img, fixed' "$blocks" "$fixed_blocks"
}

packed() { # packed DIR
  local bytes_upload
  hfl 'new.squashfs, bytes' bytes "$1/old.squashfs" "$1/new.squashfs"
  bytes_upload=$upload
  casync_like "$blocks" "$1/old.squashfs" "$1/new.squashfs"
  verdict 'bytes: upload of new.squashfs, casync' "$bytes_upload" "$upload"
}

for kind; do
  line=$(measure floor "$lab/$kind/old.tar" "$lab/$kind/new.tar")
  floor=$(field floor <<<"$line")
  printf '\n%s: %s files changed, floor %s MB\n' "$kind" "$(field files <<<"$line")" "$(mb "$floor")"
  row 'image, rule' blocks mean new 'upload MB' 'excess MB'
  rebuilt "$lab/$kind"
  kept "$lab/$kind"
  packed "$lab/$kind"
done
exit "$failed"
