#!/usr/bin/env bash
# cross.sh ppc64el|s390x DIR [--system] - builds the static client for another machine, with Debian's
# packages.
#
# The client is written to DIR/ARCH/hfl-mount; about 10 minutes and 2 GB. Downloads rustc-web and the
# standard library for ARCH from Debian 12, in one version, and unpacks them in DIR; nothing for ARCH is
# installed, and root is not needed. Requires an installed linker with its C library
# (gcc-powerpc64le-linux-gnu and libc6-dev-ppc64el-cross, or gcc-s390x-linux-gnu and
# libc6-dev-s390x-cross), and cargo. HFL_DEBIAN is the URL of a Debian archive, for machines whose apt
# sources contain none.
# --system: also unpacks Debian's kernel with its modules and a static busybox for ARCH in DIR/ARCH/system.
#
# Exit codes: 0 built, 1 cannot be built, 2 usage, 69 a requirement is missing.
set -euo pipefail

usage() { echo "usage: cross.sh ppc64el|s390x DIR [--system]" >&2; exit 2; }
missing() { echo "cross.sh: $*" >&2; exit 69; }

[ $# -ge 2 ] || usage
arch=$1
case $arch in
  ppc64el) machine=powerpc64le kernel=linux-image-powerpc64le ;;
  s390x) machine=s390x kernel=linux-image-s390x ;;
  *) usage ;;
esac
case ${3:-} in '') with_system=false ;; --system) with_system=true ;; *) usage ;; esac
project=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$2"
dir=$(cd "$2" && pwd)
target=$machine-unknown-linux-gnu
linker=$machine-linux-gnu-gcc
command -v cargo >/dev/null || missing "no cargo"
command -v apt-get >/dev/null || missing "no apt-get: this is for Debian and those that come from it"
command -v "$linker" >/dev/null || missing "no $linker: apt install gcc-${linker%-gcc} libc6-dev-$arch-cross"
own=$(dpkg --print-architecture)

# --- packages of Debian 12 for any architecture, independent of this system's packages ---

keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e "$keys" ] || missing "no $keys: apt install debian-archive-keyring"
archive=${HFL_DEBIAN:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | sort -u | head -n 1)}
[ -n "$archive" ] || missing "apt knows no archive of Debian: run apt-get update, or set HFL_DEBIAN to the URL of one"

# apt ARCH PROGRAM WORD...: runs an apt program as on a machine of that architecture, with its lists in
# DIR.
apt() {
  local state=$dir/apt/$1
  if [ ! -e "$state/apt.conf" ]; then
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    : >"$state/status"
    echo "deb [signed-by=$keys] $archive bookworm main" >"$state/sources.list"
    printf '%s "%s";\n' APT::Architecture "$1" APT::Architectures "$1" APT::Sandbox::User root Acquire::Languages none \
      Dir::State "$state" Dir::State::lists "$state/lists" Dir::State::status "$state/status" Dir::Cache "$state/cache" \
      Dir::Etc::sourcelist "$state/sources.list" Dir::Etc::sourceparts /dev/null Dir::Etc::preferencesparts /dev/null \
      >"$state/apt.conf.new"
    APT_CONFIG=$state/apt.conf.new apt-get -q -o APT::Update::Error-Mode=any update >"$state/log" 2>&1 ||
      { tail -n 3 "$state/log" >&2; missing "no list of the packages for $1"; }
    mv "$state/apt.conf.new" "$state/apt.conf"
  fi
  APT_CONFIG=$state/apt.conf "${@:2}"
}

# unpack ARCH INTO PACKAGE...: downloads packages and unpacks them in INTO, once.
unpack() {
  local from=$1 into=$2 done
  shift 2
  done=$into/.unpacked-$from-$(echo "$*" | tr ' ' +)
  [ ! -e "$done" ] || return 0
  mkdir -p "$into" "$dir/apt/$from/packages"
  rm -f "$dir/apt/$from/packages/"*
  (cd "$dir/apt/$from/packages" && apt "$from" apt-get -q download "$@" >../log 2>&1) ||
    { tail -n 3 "$dir/apt/$from/log" >&2; rm -f "$dir/apt/$from/apt.conf"; missing "cannot get $* for $from"; }
  for package in "$dir/apt/$from/packages/"*.deb; do dpkg -x "$package" "$into"; done
  : >"$done"
}

echo "compiler"
tools=$dir/toolchain
# The compiler, those of its libraries that some systems lack, and two standard libraries: this
# machine's, for programs that run during the build, and the target's.
unpack "$own" "$tools" rustc-web libstd-rust-web-1.85 libstd-rust-web-dev libllvm19 \
  libbsd0 libedit2 libffi8 libicu72 libmd0 libxml2 libz3-4
unpack "$arch" "$tools" libstd-rust-web-dev
libraries=$(dirname "$tools"/usr/lib/*/librustc_driver-*.so)
mkdir -p "$tools/bin"
printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "'$libraries'" "'$tools/usr/bin/rustc'" >"$tools/bin/rustc"
chmod 755 "$tools/bin/rustc"
export RUSTC=$tools/bin/rustc
release=$("$RUSTC" -vV | sed -n 's/^release: //p') || missing "$RUSTC does not run here"
echo "rustc $release"

if $with_system; then
  echo "system"
  image=$(apt "$arch" apt-cache depends "$kernel" | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p')
  [ -n "$image" ] || missing "no $kernel"
  unpack "$arch" "$dir/$arch/system" "$image" busybox-static
fi

# --- the client, with the newest dependencies that this compiler supports ---

# The whole project requires a newer compiler than its client does. The required version, and the
# versions of the dependencies, are changed in a copy.
copy=$dir/source
mkdir -p "$copy"
for part in src templates tests benches; do ln -sfn "$project/$part" "$copy/$part"; done
cp "$project/Cargo.lock" "$copy/"
sed "s/^rust-version = .*/rust-version = \"${release%.*}\"/" "$project/Cargo.toml" >"$copy/Cargo.toml"

export CARGO_TARGET_DIR=$dir/target CARGO_RESOLVER_INCOMPATIBLE_RUST_VERSIONS=fallback
export RUSTFLAGS='-C target-feature=+crt-static'
export "CARGO_TARGET_$(echo "$target" | tr a-z- A-Z_)_LINKER=$linker"
cd "$copy"

build() {
  cargo build --profile client --no-default-features --features mount --bin hfl-mount --target "$target" 2>"$dir/build.log"
}

echo "client"
for _ in 1 2 3 4; do
  if build; then
    install -D -m 755 "$CARGO_TARGET_DIR/$target/client/hfl-mount" "$dir/$arch/hfl-mount"
    echo "$dir/$arch/hfl-mount, $(stat -c %s "$dir/$arch/hfl-mount") bytes"
    exit 0
  fi
  mapfile -t newer < <(sed -n 's/^  \([^ ]*@[^ ]*\) requires rustc .*/\1/p' "$dir/build.log" | sort -u)
  ((${#newer[@]})) || break
  echo "older, for this compiler: ${newer[*]}"
  cargo --quiet update "${newer[@]}"
done
tail -n 40 "$dir/build.log" >&2
echo "cross.sh: the client cannot be built for $arch" >&2
exit 1
