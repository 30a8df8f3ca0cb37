#!/usr/bin/env bash
# benches/update.sh LAB [PAIR...] - what a client downloads for an update: hfl without and with deltas, and casync.
#
# LAB is a directory of benches/images.sh with the pairs small and dev, each as .img and .squashfs. For each pair both
# versions are published; a client with the old version in its cache (hfl), or the old image as a seed (casync, gzip
# chunks of default size), gets the new one over HTTP from nginx, whose log counts the bytes. All results are compared
# with the image. Also: processor time and peak memory of publishing without deltas and with them, and peak memory of the
# client.
#
# HFL (target/release/hfl, beside hfl-mount) is the program. Needs nginx, casync, jq, root.
set -euo pipefail
lab=$(realpath "${1:?usage: benches/update.sh LAB [PAIR...]}")
shift
pairs=${*:-small.img dev.img small.squashfs}
hfl=${HFL:-$(realpath "$(dirname "$0")/../target/release/hfl")}
client=$(dirname "$hfl")/hfl-mount
port=${HFL_BENCH_PORT:-18783}
work=$(mktemp -d)
export HOME=$work/home XDG_STATE_HOME=$work/state
mkdir -p "$HOME" "$work/www" "$work/tmp"
cleanup() {
  if [ -s "$work/nginx.pid" ]; then kill "$(cat "$work/nginx.pid")" || true; fi
  rm -rf "$work"
}
trap cleanup EXIT

cat > "$work/nginx.conf" <<CONF
user root; worker_processes 2; pid $work/nginx.pid; error_log $work/nginx.log;
events { worker_connections 256; }
http { log_format sent '\$bytes_sent'; access_log $work/sent sent; sendfile on; keepalive_requests 100000;
  client_body_temp_path $work/tmp/b; proxy_temp_path $work/tmp/p; fastcgi_temp_path $work/tmp/f;
  uwsgi_temp_path $work/tmp/u; scgi_temp_path $work/tmp/s;
  server { listen 127.0.0.1:$port; root $work/www; } }
CONF
nginx -c "$work/nginx.conf" -e "$work/nginx.log"

# sent - bytes that the server has sent since the last call.
sent() {
  sleep 0.3
  awk '{ sum += $1 } END { print sum + 0 }' "$work/sent"
  : > "$work/sent"
}
mb() { awk -v bytes="$1" 'BEGIN { printf "%.2f", bytes / 1e6 }'; }
# timed COMMAND... - runs it; prints its processor time in seconds and its peak memory in MiB.
timed() {
  /usr/bin/time -o "$work/time" -f '%U %S %M' "$@" > "$work/out" 2>> "$work/messages"
  awk '{ printf "%.1f %.0f", $1 + $2, $3 / 1024 }' "$work/time"
}
fetch() {
  /usr/bin/time -o "$work/time" -f '%M' "$client" fetch --quiet --unsigned --only --cache "$work/cache" --cache-size 100G --version "$1" --allow-rollback \
    "http://127.0.0.1:$port/$2/image" 2>> "$work/messages"
}

echo "| pair | new blocks | hfl | hfl, deltas | of the new blocks | casync | deltas of casync | publish | with deltas | client |"
echo "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
for pair in $pairs; do
  name=${pair%.*} kind=${pair##*.}
  old=$lab/$name/old.$kind new=$lab/$name/new.$kind
  rm -rf "$work/www" "$work/cache" "$work/state"
  mkdir -p "$work/www/plain" "$work/www/deltas" "$work/www/casync"
  for repository in plain deltas; do
    "$hfl" publish --quiet --unsigned "$old" --name image --to "$work/www/$repository/"
  done
  plain=$(timed "$hfl" publish --unsigned "$new" --name image --to "$work/www/plain/" --json)
  blocks=$(jq .new.zlib_bytes "$work/out")
  rm -rf "$work/state"
  deltas=$(timed "$hfl" publish --unsigned "$new" --name image --to "$work/www/deltas/" --json --deltas)
  figures= memory=
  for repository in plain deltas; do
    rm -rf "$work/cache" "$work/state"
    fetch 1 $repository
    sent > /dev/null
    fetch 2 $repository
    figures+="$(sent) "
    memory+="$(($(cat "$work/time") / 1024)) MiB "
    # Nothing more is downloaded, and it is the image.
    "$hfl" restore --quiet --unsigned "$work/cache/image" "$work/restored.img"
    cmp "$new" "$work/restored.img"
    rm "$work/restored.img"
  done
  read -r without with <<< "$figures"
  casync=-
  if command -v casync > /dev/null && [ -z "${HFL_FAST:-}" ]; then
    for version in old new; do
      casync make --compression=gzip --store="$work/www/casync/store.castr" "$work/www/casync/$version.caibx" \
        "$lab/$name/$version.$kind" > /dev/null
    done
    sent > /dev/null
    casync extract --seed="$old" --store="http://127.0.0.1:$port/casync/store.castr" \
      "http://127.0.0.1:$port/casync/new.caibx" "$work/extracted.img" > /dev/null 2>> "$work/messages"
    casync=$(sent)
    cmp "$new" "$work/extracted.img"
    rm "$work/extracted.img"
  fi
  part() { awk -v a="$1" -v b="$2" 'BEGIN { if (b + 0 > 0) printf "%.3f", a / b; else printf "-" }'; }
  echo "| $pair | $(mb "$blocks") | $(mb "$without") | $(mb "$with") | $(part "$with" "$blocks") |" \
    "$([ "$casync" = - ] && echo - || mb "$casync") | $(part "$with" "$casync") |" \
    "${plain/ / s, } MiB | ${deltas/ / s, } MiB | $memory|"
done
