#!/usr/bin/env bash
# compare.sh LAB KIND... - what two nightly builds of an image cost with hfl, casync and xz, each with its defaults, on the
# images that benches/images.sh made in LAB/KIND.
#
# For each tool: bytes and files on the server after old.img; the bytes and files that new.img adds, which is also what a
# client downloads that has old.img as a seed; processor seconds of the first publish. xz knows no previous version, so every
# version is a whole file. desync writes casync's chunk format with the same chunker, so it has casync's numbers of bytes.
# casync compresses with zstd by default; its gzip is shown too, since hfl uses zlib. Needs casync and xz; 4 GB of space.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: compare.sh LAB KIND..." >&2; exit 2; }
lab=$(realpath "$1")
shift
cd "$(dirname "$0")/.."
cargo build --quiet --release --bin hfl
hfl=$PWD/target/release/hfl
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

row() { printf '| %-22s | %9s | %6s | %9s | %6s | %10s |\n' "$@"; }
held() { find "$1" -type f -printf '%s\n' | awk '{ bytes += $1 } END { print NR, bytes + 0 }'; } # FILES BYTES
mb() { awk -v bytes="$1" 'BEGIN { printf "%.1f MB", bytes / 1e6 }'; }

# compare NAME DIRECTORY COMMAND - runs COMMAND OLD, then COMMAND NEW, which fill DIRECTORY; prints a row.
compare() {
  local name=$1 directory=$2 first second seconds
  shift 2
  mkdir -p "$directory"
  seconds=$( { TIMEFORMAT='%U %S'; time "$@" "$old" >/dev/null; } 2>&1 | tail -n 1 | awk '{ printf "%.1f s", $1 + $2 }')
  first=$(held "$directory")
  "$@" "$new" >/dev/null
  second=$(held "$directory")
  row "$name" "$(mb "${first#* }")" "${first% *}" "$(mb $((${second#* } - ${first#* })))" \
    "$((${second% *} - ${first% *}))" "$seconds"
}

with_hfl() { (cd "$scratch" && HOME=$scratch/$kind XDG_STATE_HOME=$scratch/$kind "$hfl" publish "$1" --name os --to mirrors.toml --quiet); }
with_casync() { casync make --compression="$1" --store="$scratch/casync-$1" "$scratch/casync-$1/$(basename "$2").caibx" "$2"; }
with_xz() { xz -T0 -c "$1" >"$scratch/xz/$(basename "$1").xz"; }

for kind; do
  old=$lab/$kind/old.img new=$lab/$kind/new.img
  rm -rf "${scratch:?}"/*
  printf '[[mirror]]\nname = "local"\nwrite = "%s/public"\n' "$scratch" >"$scratch/mirrors.toml"
  printf '\n%s: %s of data in %s\n\n' "$kind" "$(mb "$(du -B1 "$old" | cut -f1)")" "$(mb "$(stat -c %s "$old")")"
  row tool 'first' files update files processor
  row --- --- --- --- --- ---
  compare hfl "$scratch/public" with_hfl
  compare 'casync, zstd' "$scratch/casync-zstd" with_casync zstd
  compare 'casync, gzip' "$scratch/casync-gzip" with_casync gzip
  compare '.img.xz' "$scratch/xz" with_xz
done
