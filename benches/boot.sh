#!/usr/bin/env bash
# boot.sh IMAGE [--full] - how long a boot takes, and what it fetches, as a table in Markdown on standard output.
#
# Boots IMAGE (see images.sh, kind small) in QEMU with an emulated processor, over a mirror that is as slow as the row says,
# until its console asks for a login. Without --full one thing is varied at a time: latency at 256 KiB, block size at 50 ms.
# With --full every combination: 80 boots and the preparations, an hour and more. Nothing else should run meanwhile.
#
# "profile": the recorded blocks are fetched ahead. "cache": the second boot of a machine with a disk for blocks.
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

# attempt SIZE MS APPEND [OPTION...]: seconds, requests for blocks, their bytes.
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
  # What is not on the disk when the machine is gone, the next boot fetches again: it writes soon, and stays until it is idle.
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
