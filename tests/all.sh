#!/usr/bin/env bash
# tests/all.sh [--full] - install what the tests need, then run all of them.
#
# Needs a Rust toolchain; installs the rest from the distribution where it may (root, apt-get). Tests that cannot run on
# this machine say "skipped: why" and are counted. --full runs the long proofs whole.
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in
  '') ;;
  --full) export HFL_FULL=1 ;;
  *) echo "usage: tests/all.sh [--full]" >&2; exit 2 ;;
esac

step() { printf '\n== %s\n' "$*"; }

step "packages"
declare -A package=([cc]=gcc [mke2fs]=e2fsprogs [minisign]=minisign [fusermount3]=fuse3 [nginx]=nginx-light [mksquashfs]=squashfs-tools)
missing=()
for program in "${!package[@]}"; do
  PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || missing+=("${package[$program]}")
done
if ((${#missing[@]})); then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing: ${missing[*]}"
    log=$(mktemp)
    { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${missing[@]}"; } \
      >"$log" 2>&1 || { tail -n 5 "$log"; echo "tests/all.sh: could not install ${missing[*]}; tests that need them are skipped"; }
    rm -f "$log"
  else
    echo "not installed, tests that need them are skipped: ${missing[*]}"
  fi
else
  echo "all there"
fi

step "format"
cargo fmt --check
step "lints"
cargo clippy --quiet --all-targets -- -D warnings
step "the static client"
target=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS='-C target-feature=+crt-static' cargo build --quiet --profile client --no-default-features --features mount \
  --bin hfl-mount --target "$target"
export HFL_STATIC_CLIENT="${CARGO_TARGET_DIR:-$PWD/target}/$target/client/hfl-mount"
ls -l "$HFL_STATIC_CLIENT" | awk '{ print $5 " bytes" }'

step "tests"
output=$(mktemp)
trap 'rm -f "$output"' EXIT
status=0
cargo test --quiet --no-fail-fast --lib --bins --tests -- --show-output 2>&1 | tee "$output" || status=$?
cargo test --quiet --doc 2>&1 | tee -a "$output" || status=$?

count() { awk -v what="$1" '$1 == "test" && $2 == "result:" { for (i = 3; i < NF; i++) if ($(i + 1) == what ";") n += $i } END { print n + 0 }' "$output"; }
skipped=$(grep -c '^skipped: ' "$output" || true)
if [ "$skipped" != 0 ]; then
  step "skipped"
  grep '^skipped: ' "$output" | sort | uniq -c
fi
echo
echo "$(($(count passed) - skipped)) passed, $(count failed) failed, $skipped skipped"
exit "$status"
