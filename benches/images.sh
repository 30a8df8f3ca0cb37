#!/usr/bin/env bash
# images.sh DIR KIND... - makes real Debian images for benchmarks, in DIR/KIND. Root; Debian 12; about 5
# minutes per kind.
#
#   old.tar  old.img  old.squashfs    bookworm as released: the root, as ext4 of 2 GiB, as squashfs (zlib, 128 KiB)
#   new.tar  new.img  new.squashfs    the same packages in their newest versions, built again from scratch
#   inplace.img                       old.img after an upgrade in place, as on a machine that is kept
#
# KIND is small (systemd, ssh, a kernel), dev (and python3, gcc, perl, git) or desktop (and xfce4,
# firefox; 4 GiB). Kinds sysvinit and openrc, which are small with another init, managed, which is small
# with NetworkManager, initramfs and dracut, which are small with what makes an initrd, and client, which
# is small with autofs, have only old.tar and old.img. Needs mmdebstrap, e2fsprogs and
# squashfs-tools. Downloads packages from the archive that this machine's apt uses.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: images.sh DIR small|dev|desktop..." >&2; exit 2; }
lab=$(realpath -m "$1")
shift

export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1750000000} DEBIAN_FRONTEND=noninteractive
uuid=5d67c791-a884-4f66-8d67-000000000001
archive=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | sort -u | head -n 1)
released=("deb $archive bookworm main")
newest=("${released[@]}" "deb $archive bookworm-updates main" "deb ${archive%/}-security bookworm-security main")

common=udev,dbus,kmod,iproute2,ifupdown,openssh-server,login,passwd,procps,less,ca-certificates,linux-image-cloud-amd64
base=systemd,systemd-sysv,$common
tools=python3,gcc,perl,git,vim-tiny,locales
screen=xfce4,xserver-xorg,fonts-dejavu,firefox-esr
sysv=sysvinit-core,initscripts,orphan-sysvinit-scripts,$common

# root PACKAGES OUT.tar SOURCE... - makes a root file system from packages, without timestamps of the
# build.
root() {
  local packages=$1 out=$2
  shift 2
  mmdebstrap --quiet --mode=root --variant=minbase --format=tar --include="$packages" \
    --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --customize-hook='echo debian >"$1/etc/hostname"' \
    --customize-hook='printf "auto lo\niface lo inet loopback\n" >"$1/etc/network/interfaces"' \
    --customize-hook='chroot "$1" passwd --quiet --delete root' \
    --customize-hook='cd "$1/etc" && { [ ! -e inittab ] || echo "S0:23:respawn:/sbin/getty -L ttyS0 115200" >>inittab; }' \
    --customize-hook='cd "$1" && rm -rf boot/initrd.img* etc/ssh/ssh_host_* var/lib/apt/lists/* var/log/*.log' \
    --customize-hook=': >"$1/etc/machine-id"' \
    bookworm "$out" "$@"
}

# ext4 ROOT.tar SIZE OUT.img - mke2fs reads files in directory order, which is reproducible on a tmpfs.
ext4() {
  local tree
  tree=$(mktemp -d)
  mount -t tmpfs -o size=80% tmpfs "$tree"
  tar --numeric-owner --xattrs --xattrs-include='*' -C "$tree" -xf "$1"
  rm -f "$3"
  truncate -s "$2" "$3"
  E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH mke2fs -q -F -t ext4 -L hflroot -U "$uuid" -m 1 \
    -E "hash_seed=$uuid,lazy_itable_init=0,lazy_journal_init=0,nodiscard" -d "$tree" "$3"
  umount "$tree"
  rmdir "$tree"
}

squashfs() {
  rm -f "$2"
  env -u SOURCE_DATE_EPOCH sqfstar -quiet -no-progress -comp gzip -b 128K -all-time "$SOURCE_DATE_EPOCH" \
    "$2" <"$1" >/dev/null
}

# upgrade OLD.img OUT.img - copies an image and upgrades the system inside it.
upgrade() {
  local root
  root=$(mktemp -d)
  cp --sparse=always "$1" "$2"
  mount -o loop "$2" "$root"
  mount -t proc proc "$root/proc"
  mount --bind /dev "$root/dev"
  cp /etc/resolv.conf "$root/etc/resolv.conf"
  printf '%s\n' "${newest[@]}" >"$root/etc/apt/sources.list"
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
  chmod +x "$root/usr/sbin/policy-rc.d"
  chroot "$root" sh -ec 'apt-get -qq update; apt-get -qq -y dist-upgrade >/dev/null; apt-get clean
    rm -rf /var/lib/apt/lists/*'
  rm -f "$root/usr/sbin/policy-rc.d" "$root"/boot/initrd.img*
  umount "$root/dev" "$root/proc" "$root"
  rmdir "$root"
}

for kind; do
  size=2G versions=(old new)
  case $kind in
    small) packages=$base ;;
    dev) packages=$base,$tools ;;
    desktop) packages=$base,$tools,$screen size=4G ;;
    sysvinit) packages=$sysv,sysv-rc versions=(old) ;;
    openrc) packages=$sysv,openrc versions=(old) ;;
    managed) packages=$base,network-manager versions=(old) ;;
    initramfs) packages=$base,initramfs-tools versions=(old) ;;
    client) packages=$base,autofs versions=(old) ;;
    dracut) packages=$base,dracut,dracut-network,isc-dhcp-client versions=(old) ;;
    *) echo "images.sh: there is no kind '$kind'" >&2; exit 2 ;;
  esac
  # The directory gets its final name only when it is complete.
  dir=$lab/.$kind
  rm -rf "$dir"
  mkdir -p "$dir"
  for version in "${versions[@]}"; do
    sources=("${released[@]}")
    [ "$version" = old ] || sources=("${newest[@]}")
    root "$packages" "$dir/$version.tar" "${sources[@]}"
    ext4 "$dir/$version.tar" "$size" "$dir/$version.img"
    [ "${#versions[@]}" = 1 ] || squashfs "$dir/$version.tar" "$dir/$version.squashfs"
  done
  [ "${#versions[@]}" = 1 ] || upgrade "$dir/old.img" "$dir/inplace.img"
  rm -rf "${lab:?}/$kind"
  mv "$dir" "$lab/$kind"
  ls -ls "$lab/$kind"
done
