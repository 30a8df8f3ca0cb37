#!/usr/bin/env bash
# benches/mount.sh IMAGE - measures hfl-mount on a real image, over HTTP from a local web server.
#
# Every target is a ratio of two figures of the same run, a size, or a rate far below what the components
# allow. Needs root, /dev/fuse, nginx, curl, python3 and busybox. On a loaded machine HFL_BENCH_RUN="chrt -r 1"
# (or nice) gives steadier figures. HFL_BENCH_RUNS (3) is the number of runs for each figure; the best one counts.
set -euo pipefail
image=$(realpath "${1:?usage: benches/mount.sh IMAGE}")
cd "$(dirname "$0")/.."
runs=${HFL_BENCH_RUNS:-3}
prefix=${HFL_BENCH_RUN:-}
host=x86_64-unknown-linux-gnu
target=${CARGO_TARGET_DIR:-target}
port=${HFL_BENCH_PORT:-18779}

cargo build --quiet --release --no-default-features --features publish,mount --bin hfl --examples
RUSTFLAGS='-C target-feature=+crt-static' \
  cargo build --quiet --profile client --no-default-features --features mount --bin hfl-mount --target "$host"
client=$target/$host/client/hfl-mount
examples=$target/release/examples

lab=$(mktemp -d)
mkdir "$lab/mnt" "$lab/mem" "$lab/repository" "$lab/tmp"
export XDG_STATE_HOME=$lab/state
cleanup() {
  for point in "$lab/mnt" "$lab/mem"; do
    if mountpoint -q "$point"; then umount -l "$point" || true; fi
  done
  if [ -s "$lab/nginx.pid" ]; then kill "$(cat "$lab/nginx.pid")" || true; fi
  rm -rf "$lab"
}
trap cleanup EXIT

printf '[[mirror]]\nname = "bench"\nwrite = "./repository"\n' > "$lab/mirrors.toml"
"$target/release/hfl" publish "$image" --to "$lab/mirrors.toml" --name bench --unsigned --quiet
# What does not compress: where connections are compared, decompression does not count.
head -c 48M /dev/urandom > "$lab/random.img"
"$target/release/hfl" publish "$lab/random.img" --to "$lab/mirrors.toml" --name random --split fixed:128K --unsigned --quiet

cat > "$lab/nginx.conf" <<EOF
user root; worker_processes 2; pid $lab/nginx.pid; error_log $lab/nginx.log;
events { worker_connections 256; }
http { access_log off; sendfile on; keepalive_requests 100000;
  client_body_temp_path $lab/tmp/b; proxy_temp_path $lab/tmp/p; fastcgi_temp_path $lab/tmp/f;
  uwsgi_temp_path $lab/tmp/u; scgi_temp_path $lab/tmp/s;
  server { listen 127.0.0.1:$port; root $lab/repository; } }
EOF
$prefix nginx -c "$lab/nginx.conf" -e "$lab/nginx.log"

bytes=$(stat -c %s "$image")
peak=0

name=bench
# Mounts the image called $name with the given options and leaves it mounted; sets pid.
start() {
  # shellcheck disable=SC2086
  $prefix "$client" --unsigned --quiet "$@" "http://127.0.0.1:$port/$name" "$lab/mnt"
  pid=$(pgrep -nx hfl-mount)
}

stop() {
  local held
  held=$(awk '/VmHWM/ {print $2}' "/proc/$pid/status")
  if ((held > peak)); then peak=$held; fi
  umount "$lab/mnt"
  while [ -e "/proc/$pid" ]; do sleep 0.05; done
}

# Time in seconds of the best of several sequential reads, each of a fresh mount.
sequential() {
  local best='' seconds
  for ((i = 0; i < runs; i++)); do
    start "$@"
    # shellcheck disable=SC2086
    seconds=$($prefix dd if="$lab/mnt/$name" of=/dev/null bs=1M 2>&1 | awk '/copied/ {for (i = 1; i <= NF; i++) if ($i == "s,") print $(i-1)}')
    stop
    best=$(awk -v a="${best:-$seconds}" -v b="$seconds" 'BEGIN {print (a < b) ? a : b}')
  done
  took=$best
}

rate() { awk -v b="$bytes" -v s="$1" 'BEGIN {printf "%.2f", b / s / 1e9}'; }

failed=0
# check NAME FIGURE at-least|at-most LIMIT
check() {
  local ok
  if [ "$3" = at-least ]; then ok=$(awk -v a="$2" -v b="$4" 'BEGIN {print (a >= b)}'); else ok=$(awk -v a="$2" -v b="$4" 'BEGIN {print (a <= b)}'); fi
  if [ "$ok" = 1 ]; then echo "PASS $1: $2 ($3 $4)"; else echo "FAIL $1: $2 ($3 $4)"; failed=1; fi
}

sequential --no-cache --one-at-a-time; one=$took
sequential --no-cache; cold=$took
runs=1 sequential --cache "$lab/cache"; fill=$took
sequential --cache "$lab/cache"; warm=$took
echo "sequential GB/s: one at a time $(rate "$one"), cold $(rate "$cold"), filling the cache $(rate "$fill"), warm $(rate "$warm")"
check "cold GB/s" "$(rate "$cold")" at-least 0.8
check "warm disk cache GB/s" "$(rate "$warm")" at-least 1.2
check "cold against one at a time" "$(awk -v a="$one" -v b="$cold" 'BEGIN {printf "%.2f", a / b}')" at-least 2.5
check "warm against cold" "$(awk -v a="$cold" -v b="$warm" 'BEGIN {printf "%.2f", a / b}')" at-least 1.0

# Servers that close each connection, against curl with the same blocks, one after the other.
awk 'NF == 4 && length($1) == 40 {print "blocks/" substr($1, 1, 2) "/" $1}' "$lab"/repository/index/random/*.idx > "$lab/blocks"
nginx_port=$port name=random
for kind in python3 busybox; do
  port=$((port + 1))
  case $kind in
    python3) python3 -m http.server "$port" --bind 127.0.0.1 --directory "$lab/repository" >/dev/null 2>&1 & ;;
    busybox) busybox httpd -f -p "127.0.0.1:$port" -h "$lab/repository" & ;;
  esac
  closing=$!
  until curl -sf "http://127.0.0.1:$port/random.head" >/dev/null; do sleep 0.05; done
  sed "s|.*|url = http://127.0.0.1:$port/&\noutput = /dev/null|" "$lab/blocks" > "$lab/urls"
  curl_took=''
  for ((i = 0; i < runs; i++)); do
    # shellcheck disable=SC2086
    seconds=$({ TIMEFORMAT=%R; time $prefix curl -sfK "$lab/urls"; } 2>&1)
    curl_took=$(awk -v a="${curl_took:-$seconds}" -v b="$seconds" 'BEGIN {print (a < b) ? a : b}')
  done
  sequential --no-cache
  kill "$closing"
  echo "$kind: a mount $took s, curl $curl_took s"
  check "$kind, a mount against curl" "$(awk -v a="$took" -v b="$curl_took" 'BEGIN {printf "%.2f", a / b}')" at-most 1.5
done
port=$nginx_port name=bench

# Peak memory with a small --memory: the client itself, the kernel's requests, and data in flight.
peak=0
runs=1 sequential --memory 16M --no-cache
runs=1 sequential --memory 16M --cache "$lab/cache"
little=$peak

# 4 KiB direct reads within 8 MiB that are in memory, with one reader and with four; the best of several
# alternating runs.
head -c 268435456 "$image" > "$lab/part"
# shellcheck disable=SC2086
$prefix "$examples/memory_fuse" "$lab/part" "$lab/mem" &
while [ ! -e "$lab/mem/memory" ]; do sleep 0.05; done
start --no-cache
best() { if (($1 > $2)); then echo "$1"; else echo "$2"; fi; }
for readers in 1 4; do
  memory=0 cached=0
  for ((i = 0; i < runs; i++)); do
    # shellcheck disable=SC2086
    memory=$(best "$memory" "$($prefix "$examples/random_read" "$lab/mem/memory" 8388608 3 "$readers")")
    # shellcheck disable=SC2086
    cached=$(best "$cached" "$($prefix "$examples/random_read" "$lab/mnt/bench" 8388608 3 "$readers")")
  done
  echo "random 4 KiB reads a second, $readers reading: from memory $memory, cached $cached"
  check "cached reads against the ceiling, $readers reading" "$(awk -v a="$memory" -v b="$cached" 'BEGIN {printf "%.2f", b / a}')" at-least 0.7
done
stop
umount "$lab/mem"

check "peak memory with --memory 16M, MiB" "$(awk -v kb="$little" 'BEGIN {printf "%.1f", kb / 1024}')" at-most 32
check "static client, MB" "$(awk -v b="$(stat -c %s "$client")" 'BEGIN {printf "%.1f", b / 1e6}')" at-most 9.0
exit "$failed"
