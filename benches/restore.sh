#!/usr/bin/env bash
# restore.sh OLD.img NEW.img [DIR] - times a restore of an image, and an update of the disk in place, beside curl and zstd.
#
# Both images are published to DIR (default: a temporary directory), with deltas, and served by nginx on loopback. Each way
# writes to a new file of DIR, and the times include a sync of it. Prints one line per way: seconds, bytes that nginx sent,
# bytes written. As root, an ext4 is also updated to a version in which every hundredth file was replaced, as an upgrade of
# a few packages does. RATE=100mbit slows loopback down to that rate (tc, in a network namespace of its own). Needs nginx,
# curl, zstd, and a release build: cargo build --release.
set -euo pipefail
if [ -n "${RATE:-}" ] && [ -z "${SLOWED:-}" ]; then
  slow='ip link set lo up mtu 1500; tc qdisc add dev lo root tbf rate "$0" burst 64kb latency 100ms; exec bash "$@"'
  SLOWED=1 exec unshare -n bash -c "$slow" "$RATE" "$0" "$@"
fi
[ $# -ge 2 ] || { echo "usage: restore.sh OLD.img NEW.img [DIR]" >&2; exit 2; }
here=$(realpath "$(dirname "$0")/..")
hfl=${HFL:-$here/target/release/hfl}
old=$(realpath "$1") new=$(realpath "$2")
lab=$(mktemp -d -p "${3:-/tmp}")
export HOME=$lab/home XDG_STATE_HOME=$lab/state PATH=$PATH:/usr/sbin:/sbin
port=$((20000 + RANDOM % 10000))
cat >"$lab/nginx.conf" <<EOF
daemon off; user root; worker_processes 1; pid $lab/pid; error_log $lab/error.log;
events { worker_connections 256; }
http { log_format sent '\$bytes_sent'; access_log $lab/access.log sent; sendfile on; keepalive_requests 100000;
  client_body_temp_path $lab/b; proxy_temp_path $lab/p; fastcgi_temp_path $lab/f; uwsgi_temp_path $lab/u; scgi_temp_path $lab/s;
  server { listen 127.0.0.1:$port; root $lab/public; } }
EOF
mkdir "$lab/public"
nginx -c "$lab/nginx.conf" -e "$lab/error.log" &
nginx=$!
trap 'kill $nginx; wait $nginx 2>/dev/null || true; umount "$lab/mounted" 2>/dev/null || true; rm -rf "$lab"' EXIT
publish() { "$hfl" publish "$1" --name "$2" --to "$lab/public/" --unsigned --quiet --deltas; }
publish "$old" os
publish "$new" os
# What is mounted is written to: a version of its own comes first.
cp --sparse=always "$new" "$lab/before"
mkdir "$lab/mounted"
few=false
if mount -o loop "$lab/before" "$lab/mounted" 2>/dev/null; then
  few=true
  umount "$lab/mounted"
  cp --sparse=always "$lab/before" "$lab/after"
  mount -o loop "$lab/after" "$lab/mounted"
  (cd "$lab/mounted" && find usr -xdev -type f | sort | awk 'NR % 100 == 0' | while IFS= read -r file; do
    cp -p "$file" "$file.new" && echo >>"$file.new" && mv "$file.new" "$file"
  done)
  umount "$lab/mounted"
  publish "$lab/before" few
  publish "$lab/after" few
else
  echo "no update of few files: the image cannot be mounted here"
fi
zstd -q -3 "$new" -o "$lab/public/new.img.zst"
url=http://127.0.0.1:$port

# run NAME OUT COMMAND... - times a command that writes OUT.
run() {
  local name=$1 out=$2 start end
  shift 2
  sync
  : >"$lab/access.log"
  kill -USR1 $nginx
  sleep 0.2
  start=$(date +%s.%N)
  "$@" >"$lab/report"
  sync "$out"
  end=$(date +%s.%N)
  cmp "$out" "${wanted:-$new}"
  local sent
  sent=$(awk '{ sum += $1 } END { printf "%.1f", sum / 1e6 }' "$lab/access.log")
  local written
  written=$(sed -n 's/^ *"written_bytes": *\([0-9]*\).*/\1/p' "$lab/report")
  printf '| %-44s | %6.2f s | %7s MB sent | %7.1f MB written |\n' "$name" "$(echo "$end - $start" | bc)" "$sent" \
    "$(echo "${written:-0} / 1000000" | bc -l)"
}
restore() { "$hfl" restore "$url/$1" "${@:2}" --unsigned --json; }
unpack() { curl -sS "$url/new.img.zst" | zstd -q -d --sparse -o "$lab/curl.img" -f; }

for _ in 1 2 3; do
  rm -f "$lab/curl.img" "$lab/new.img" "$lab/disk.img"
  run "curl | zstd -d --sparse" "$lab/curl.img" unpack
  run "hfl restore" "$lab/new.img" restore os "$lab/new.img"
  rm "$lab/new.img"
  run "hfl restore --no-verify" "$lab/new.img" restore os "$lab/new.img" --no-verify
  cp --sparse=always "$old" "$lab/disk.img"
  run "hfl restore --in-place, of the old version" "$lab/disk.img" restore os "$lab/disk.img" --in-place
  run "hfl restore --in-place, nothing to do" "$lab/disk.img" restore os "$lab/disk.img" --in-place
  $few || continue
  rm "$lab/new.img"
  wanted=$lab/after run "hfl restore, of few files changed" "$lab/new.img" restore few "$lab/new.img"
  cp --sparse=always "$lab/before" "$lab/disk.img"
  wanted=$lab/after run "hfl restore --in-place, of few files changed" "$lab/disk.img" restore few "$lab/disk.img" --in-place
done
