#!/usr/bin/env bash
# packages.sh OUTPUT [--programs DIR] - makes the packages in OUTPUT, and uses them in a clean Debian 12 and 13.
#
# With --programs, as templates/package/build has it, nothing is compiled. Needs root, cargo-deb and cargo-generate-rpm, and
# lintian, mmdebstrap, minisign, rpm and, for the container, buildah (Debian's packages of these names). About 10 minutes beside
# the compiling. HFL_DEBIAN is the URL of a Debian archive, for machines whose apt sources contain none.
#
# Exit codes: 0 all is well, 1 something is not, 2 usage, 69 a requirement is missing.
set -euo pipefail
project=$(cd "$(dirname "$0")/.." && pwd)
build=$project/templates/package/build

missing() { echo "packages.sh: $*" >&2; exit 69; }
fail() { echo "packages.sh: $*" >&2; exit 1; }
step() { printf '\n== %s\n' "$*"; }

[ $# = 1 ] || { [ $# = 3 ] && [ "$2" = --programs ]; } || { echo "usage: packages.sh OUTPUT [--programs DIR]" >&2; exit 2; }
mkdir -p "$1"
output=$(cd "$1" && pwd)
shift
[ "$(id -u)" = 0 ] || missing "needs root, for a change of the root directory"
for tool in lintian mmdebstrap minisign rpm; do command -v $tool >/dev/null || missing "no $tool: apt install $tool"; done
archive=${HFL_DEBIAN:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | sort -u | head -n 1)}
[ -n "$archive" ] || missing "apt knows no archive of Debian: run apt-get update, or set HFL_DEBIAN to the URL of one"

work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
# alone DIR COMMAND...: runs it with DIR as its root directory. What it mounts or starts ends with it.
alone() {
  unshare --mount --pid --fork --kill-child sh -ec '
    root=$1; shift
    mount --make-rprivate /
    mkdir -p "$root/proc" "$root/dev" "$root/tmp"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    exec chroot "$root" "$@"' sh "$@"
}

step "packages, signed"
minisign -G -W -p "$work/test.pub" -s "$work/test.key" >/dev/null
"$build" "$@" --key "$work/test.key" "$output" || exit
(cd "$output" && sha256sum --quiet -c SHA256SUMS && minisign -Vqm SHA256SUMS -p "$work/test.pub") || fail "SHA256SUMS is wrong"
version=$("$build" --version)
machine=$(uname -m)

step "made again: the same bytes"
"$build" --programs "${2:-$project/target/package/programs}" "$work/again" >/dev/null
diff "$output/SHA256SUMS" "$work/again/SHA256SUMS" || fail "the packages differ"
[ ! -e "$work/again/SHA256SUMS.minisig" ] || fail "signed without a key"

step "lintian"
lintian --allow-root --fail-on error,warning "$output"/*"_${version}_"*.deb

for suite in bookworm trixie; do
  step "Debian $suite"
  # adduser and e2fsprogs, which other packages bring, stay or leave files of their own.
  mmdebstrap --quiet --mode=root --variant=minbase --include=adduser,ca-certificates,e2fsprogs,kmod $suite "$work/$suite" "deb $archive $suite main"
  cp -L /etc/resolv.conf "$work/$suite/etc/resolv.conf"
  mkdir "$work/$suite/packages"
  cp "$output"/*"_${version}_"*.deb "$project"/tests/packages/{inside,sysupdate}.sh "$work/$suite/packages"
  alone "$work/$suite" /packages/inside.sh
  # Debian 12 has no systemd-sysupdate.
  [ $suite = bookworm ] || alone "$work/$suite" /packages/sysupdate.sh
done

step "rpm"
for package in "$output"/*"-$version-1.$machine.rpm"; do
  rpm -K "$package"
  rpm -qp --requires --recommends "$package" 2>/dev/null | sort -u | paste -sd ' ' | sed 's/^/  /'
done
# A shell for the scripts of the packages, and nothing else: what is static runs.
busybox=$(command -v busybox) || missing "no busybox: apt install busybox-static"
mkdir -p "$work/rpm/bin" "$work/rpm/dev" "$work/rpm/usr/bin" "$work/rpm/usr/sbin"
mknod -m 666 "$work/rpm/dev/null" c 1 3
cp "$busybox" "$work/rpm/bin/busybox"
chroot "$work/rpm" /bin/busybox --install -s /bin
rpm --root "$work/rpm" --initdb
rpm --root "$work/rpm" --install --nodeps "$output"/*"-$version-1.$machine.rpm"
chroot "$work/rpm" /usr/bin/hfl-mount -V
chroot "$work/rpm" /usr/sbin/mount.hfl -V
chroot "$work/rpm" /usr/lib/hfl/hfl-mount -V
[ -x "$work/rpm/usr/bin/hfl" ] && [ -e "$work/rpm/usr/share/man/man1/hfl.1.gz" ] || fail "the rpm lacks files"
rpm --root "$work/rpm" --erase hfl hfl-mount
left=$(find "$work/rpm" -name '*hfl*')
[ -z "$left" ] || fail "left behind: $left"

step "tarball"
mkdir -p "$work/tar/etc"
tar -C "$work/tar" --strip-components=1 -xzf "$output/hfl-$version-$machine-linux.tar.gz"
echo '127.0.0.1 image.test' >"$work/tar/etc/hosts"
cp "$project/tests/packages/static.sh" "$work/tar/"
cp "$busybox" "$work/tar/bin/busybox"
alone "$work/tar" /bin/busybox sh /static.sh

step "container"
if command -v buildah >/dev/null; then
  "$project/tests/packages/container.sh" "$output" "$work/trixie" "$work/containers"
else
  echo "skipped: no buildah"
fi
