#!/usr/bin/env bash
# boot.sh IMAGE [--full] - measures the time of a boot and what it fetches; prints a Markdown table.
#
# Boots IMAGE (see images.sh, kind small) in QEMU with an emulated processor, over a mirror with the
# latency of the row, until the console shows a login prompt. Without --full one parameter varies at a
# time: the latency at 256 KiB, the block size at 50 ms. With --full all combinations are measured: 80
# boots and their preparation, more than an hour. The machine should be idle.
#
# "profile": the recorded blocks are prefetched. "cache": the second boot of a machine with a cache disk
# for blocks.
set -euo pipefail
[ $# -ge 1 ] && [ -f "$1" ] || { echo "usage: boot.sh IMAGE [--full]" >&2; exit 2; }
image=$(realpath "$1")
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
cargo build --quiet --release
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS='-C target-feature=+crt-static' cargo build --quiet --profile client --no-default-features --features mount \
  --bin hfl-mount --target "$host"
hfl=$target/release/hfl
work=$(mktemp -d "$target/boot-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
export XDG_CONFIG_HOME=$work/config XDG_CACHE_HOME=$work/cache
printf '[publish]\nclient = ["%s"]\n[[mirror]]\nname = "a"\nwrite = "./public"\n' "$target/$host/client/hfl-mount" >mirrors.toml
words='net.ifnames=0 systemd.show_status=0'
soon='sysctl.vm.dirty_expire_centisecs=100 sysctl.vm.dirty_writeback_centisecs=50'

publish() { "$hfl" publish "$image" --name "b$1" --to mirrors.toml --quiet --split "fixed:$1K" --boot --boot-append "$words" "${@:2}"; }

# attempt SIZE MS APPEND [OPTION...]: seconds, block requests, their bytes.
attempt() {
  "$hfl" boot try "b$1" --to mirrors.toml --json --accel tcg --latency "$2ms" --append "$3" "${@:4}" 2>/dev/null |
    python3 -c 'import json, sys
r = json.load(sys.stdin)
assert r["reached"], r
f = r["fetched"]
print("%.1f s, %d, %.1f MB" % (r["seconds"], f["blocks"], f["block_bytes"] / 1e6))'
}

disk=(-- -drive "file=$work/disk,format=raw,if=virtio")
fresh_disk() { rm -f disk; truncate -s 3G disk; mke2fs -q -F -t ext4 disk; }

# row SIZE MS: the four cells of a row.
row() {
  local plain profile cached both
  plain=$(attempt "$1" "$2" hfl.profile=off)
  profile=$(attempt "$1" "$2" '')
  fresh_disk
  # Blocks that are not on disk when the machine stops are fetched again at the next boot. So this boot
  # writes soon, and runs until it is idle.
  attempt "$1" 0 "hfl.profile=off hfl.cache=/dev/vda $soon" --record "$work/unused" "${disk[@]}" >/dev/null
  cached=$(attempt "$1" "$2" 'hfl.profile=off hfl.cache=/dev/vda' "${disk[@]}")
  both=$(attempt "$1" "$2" 'hfl.cache=/dev/vda' "${disk[@]}")
  echo "| $1 KiB | $2 ms | $plain | $profile | $cached | $both |"
}

for size in 64 128 256 512; do
  publish "$size"
  "$hfl" boot try "b$size" --to mirrors.toml --quiet --accel tcg --record "p$size" >/dev/null
  publish "$size" --profile "p$size"
done
echo "| blocks | latency | fetched on demand | with a profile | second boot, cache | cache and profile |"
echo "| --- | --- | --- | --- | --- | --- |"
if [ "${2:-}" = --full ]; then
  for size in 64 128 256 512; do
    for ms in 0 20 50 100 200; do row "$size" "$ms"; done
  done
else
  for ms in 0 20 50 100 200; do row 256 "$ms"; done
  for size in 64 128 512; do row "$size" 50; done
fi
