#!/bin/sh
# What the codecs and levels of blocks cost and save on one image: bytes of all blocks, processor time to publish, and
# processor time to restore. Beside them the same image as one .xz and one .zst file.
#
#   benches/codecs.sh IMAGE
#
# HFL names the release build of hfl (default: target/release/hfl).
set -eu
image=$(realpath "${1:?usage: benches/codecs.sh IMAGE}")
hfl=${HFL:-$(dirname "$0")/../target/release/hfl}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
export HOME="$work/home" XDG_STATE_HOME="$work/state" TIMEFORMAT='%U %S'
mkdir -p "$HOME"

# Runs a command quietly; prints its processor time in seconds.
seconds() {
    bash -c 'time "$@" >/dev/null 2>"$0/stderr"' "$work" "$@" 2>&1 | awk '{ printf "%.1f", $1 + $2 }'
}

echo "| codec | MB | publish, s | restore, s |"
echo "|---|--:|--:|--:|"
for codec in ${CODECS:-zlib:1 zlib:5 zlib:9 zlib:12 zstd:1 zstd:3 zstd:6 zstd:9 zstd:12 zstd:15 zstd:19 zstd:22}; do
    rm -rf "$work/repo" "$work/out.img" "$XDG_STATE_HOME"
    mkdir -p "$work/repo"
    publish=$(seconds "$hfl" publish "$image" --name image --codec "$codec" --to "$work/repo/")
    restore=$(seconds "$hfl" restore "$work/repo/image" "$work/out.img")
    cmp "$image" "$work/out.img"
    mb=$(du -sb --apparent-size "$work/repo/blocks" | awk '{ printf "%.1f", $1 / 1e6 }')
    echo "| $codec | $mb | $publish | $restore |"
done
for tool in "xz -6 -T1" "zstd -19 -T1 --long=27"; do
    mb=$($tool -c < "$image" 2>/dev/null | wc -c | awk '{ printf "%.1f", $1 / 1e6 }')
    echo "| $tool, one file | $mb | | |"
done
