#!/usr/bin/env bash
# benches/scale.sh [HFL] - measures the cost of many images, many versions and a slow new mirror. HFL is
# the program to measure; default: built from this tree.
#
# Every target is a count, a size, processor time, or a rate far below what a machine allows. Takes half
# an hour. Needs strace, python3, nginx with its module dav-ext, and 4 GB in HFL_BENCH_DIR (/tmp).
# HFL_BENCH_IMAGES (300), HFL_BENCH_VERSIONS (365) and HFL_BENCH_PARTS ("images versions mirror") reduce
# the work.
set -euo pipefail
cd "$(dirname "$0")/.."
tree=$PWD
if [ $# -ge 1 ]; then
  hfl=$(realpath "$1")
else
  cargo build --quiet --release --bin hfl
  hfl=${CARGO_TARGET_DIR:-$tree/target}/release/hfl
fi
images=${HFL_BENCH_IMAGES:-300}
versions=${HFL_BENCH_VERSIONS:-365}
parts=${HFL_BENCH_PARTS:-images versions mirror}
port=${HFL_BENCH_PORT:-18789}
lab=$(mktemp -d "${HFL_BENCH_DIR:-/tmp}/scale-bench.XXXXXX")
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill "$pid" || true; done
  rm -rf "$lab"
}
trap cleanup EXIT

failed=0
# check NAME FIGURE at-most LIMIT
check() {
  local word=PASS
  awk -v a="$2" -v b="$4" 'BEGIN { exit !(a <= b) }' || { word=FAIL; failed=1; }
  echo "$word  $1: $2 ($3 $4)"
}

# Creates the home and repository of a part, and changes to its directory.
part() {
  mkdir -p "$lab/$1"
  cd "$lab/$1"
  export HOME=$lab/$1 XDG_CONFIG_HOME=$lab/$1/config XDG_CACHE_HOME=$lab/$1/cache XDG_STATE_HOME=$lab/$1/state
  printf '[[mirror]]\nname = "a"\nwrite = "./a"\n' >mirrors.toml
}
publish() { "$hfl" publish "$1" --name "$2" --to mirrors.toml --quiet "${@:3}"; }

# cost COMMAND...: sets code, wall, cpu (seconds) and peak (MiB).
cost() {
  read -r code wall cpu peak < <(python3 "$tree/benches/scale/cost.py" "$hfl" "$@" --quiet)
  echo "      hfl $*: $wall s, $cpu s of processor time, $peak MiB, exit code $code"
}
# reads COMMAND...: sets code, heads (number of opened heads) and read (MB from the mirror).
reads() {
  read -r code heads read < <(python3 "$tree/benches/scale/cost.py" --trace a "$hfl" "$@" --quiet)
  echo "      hfl $*: $heads heads opened, $read MB read, exit code $code"
}
minus() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a - b }'; }

# random_bytes SEED COUNT: incompressible bytes, the same in each run.
random_bytes() { head -c "$2" /dev/zero | openssl enc -aes-128-ctr -nosalt -pass "pass:$1" -pbkdf2 -iter 1; }

# Seconds until hfl ends after SIGTERM, sent half a second after its start.
stopped() {
  "$hfl" "$@" --quiet &
  local pid=$! begun
  sleep 0.5
  begun=$EPOCHREALTIME
  kill -TERM "$pid" 2>/dev/null || echo "      it had ended before it was told to"
  code=0
  wait "$pid" || code=$?
  took=$(minus "$EPOCHREALTIME" "$begun")
  echo "      hfl $*: ended with exit code $code"
}

many_images() {
  part images
  random_bytes images 65536 >o.img
  publish o.img o0
  cost publish o.img --name o0 --to mirrors.toml
  local one=$cpu i
  for ((i = 1; i < images; i++)); do publish o.img "o$i"; done
  echo "$images images of 64 KiB, each with a key of its own; a directory"
  cost publish o.img --name o0 --to mirrors.toml
  check "processor seconds of an unchanged publish beyond those with one image" "$(minus "$cpu" "$one")" at-most 0.25
  reads publish o.img --name o0 --to mirrors.toml
  check "heads read by it" "$heads" at-most "$images"
  for command in "gc --keep 14" sync; do
    # shellcheck disable=SC2086
    cost $command --to mirrors.toml
    check "seconds of hfl $command with nothing to do" "$wall" at-most 1
    check "processor seconds of it" "$cpu" at-most 1
  done
  random_bytes more 65536 >o.img
  for ((i = 0; i < images; i++)); do publish o.img "o$i"; done
  stopped gc --keep 1 --more-than-half --to mirrors.toml
  check "seconds until hfl gc ends after SIGTERM" "$took" at-most 2
  "$hfl" verify --to mirrors.toml --quiet || { echo "FAIL  what it left does not verify"; failed=1; }
}

# 8 GiB with 128 pieces of 1 MiB; cut into blocks of 4 KiB its index has 4 MB.
long_history() {
  part versions
  local second i piece split=(--split fixed:4096)
  for ((i = 0; i < 128; i++)); do
    truncate -s $((i << 26)) os.img
    random_bytes "$i" 1048576 >>os.img
  done
  truncate -s 8G os.img
  change() { random_bytes "version $1" 1048576 | dd of=os.img bs=1M seek=$((($1 * 37 % 128) * 64)) conv=notrunc status=none; }
  publish os.img os "${split[@]}"
  change 2
  cost publish os.img --name os --to mirrors.toml "${split[@]}"
  second="$wall $cpu"
  for ((i = 3; i <= versions; i++)); do
    change "$i"
    publish os.img os "${split[@]}"
  done
  echo "$versions versions of an image of 8 GiB, 1 MiB changed in each; an index has $(stat -c %s a/index/os/1-*.idx) bytes"
  change $((versions + 1))
  cost publish os.img --name os --to mirrors.toml "${split[@]}"
  check "MiB of memory of one more version" "$peak" at-most 120
  check "processor seconds beyond those of version 2" "$(minus "$cpu" "${second#* }")" at-most 2
  check "seconds beyond those of version 2" "$(minus "$wall" "${second% *}")" at-most 2
  change $((versions + 2))
  reads publish os.img --name os --to mirrors.toml "${split[@]}"
  check "MB read from the mirror by one more version" "$read" at-most 10
  cost gc --keep 14 --more-than-half --to mirrors.toml
  cost gc --keep 14 --grace-days 0 --to mirrors.toml
  check "exit code of the second hfl gc, which removes what the first one retired" "$code" at-most 0
}

# nginx as a WebDAV server, behind a relay of 50 ms.
slow_server() {
  mkdir -p root t
  cat >nginx.conf <<END
load_module /usr/lib/nginx/modules/ngx_http_dav_ext_module.so;
$([ "$(id -u)" = 0 ] && echo "user root;") daemon off; worker_processes 2; pid $PWD/pid; error_log $PWD/error.log;
events { worker_connections 256; }
http { access_log off; client_max_body_size 64m; client_body_temp_path $PWD/t/b; proxy_temp_path $PWD/t/p;
  fastcgi_temp_path $PWD/t/f; uwsgi_temp_path $PWD/t/u; scgi_temp_path $PWD/t/s; dav_ext_lock_zone zone=hfl:1m;
  server { listen 127.0.0.1:$((port + 1)); root $PWD/root;
    location / { dav_methods PUT DELETE MKCOL COPY MOVE; dav_ext_methods PROPFIND OPTIONS LOCK UNLOCK;
      dav_ext_lock zone=hfl; create_full_put_path on; dav_access user:rw group:r all:r; } } }
END
  nginx -c "$PWD/nginx.conf" -e "$PWD/error.log" &
  pids+=($!)
  python3 "$tree/benches/scale/delay.py" "$port" $((port + 1)) 50 &
  pids+=($!)
  sleep 1
}

new_mirror() {
  part mirror
  local i
  # Like a small system that changes a little every night: about 1,000 blocks in 100 versions.
  random_bytes 0 67108864 >os.img
  for ((i = 1; i <= 100; i++)); do
    random_bytes "version $i" 1048576 | dd of=os.img bs=1M seek=$((i * 37 % 64)) conv=notrunc status=none
    publish os.img os
  done
  slow_server
  printf '[[mirror]]\nname = "far"\nwrite = "webdav+http://127.0.0.1:%s/"\n' "$port" >>mirrors.toml
  echo "a new WebDAV mirror at 50 ms, of an image with 100 versions and $(find a/blocks -type f | wc -l) blocks"
  cost sync --to mirrors.toml
  check "seconds of hfl sync" "$wall" at-most 8
  diff <(cd a && find blocks index ./*.head -type f | sort) <(cd root && find blocks index ./*.head -type f | sort) ||
    { echo "FAIL  the new mirror has not all"; failed=1; }
}

for part in $parts; do
  case $part in
    images) many_images ;;
    versions) long_history ;;
    mirror) new_mirror ;;
    *) echo "scale.sh: there is no part '$part'" >&2; exit 2 ;;
  esac
done
exit "$failed"
