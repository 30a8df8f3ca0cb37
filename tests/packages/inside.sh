#!/usr/bin/env bash
# inside.sh - runs in a clean Debian with the packages in /packages: installs, uses and purges them, and prints what it types.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
cd /root

fail() { echo "inside.sh: $*" >&2; exit 1; }
# typed COMMAND: what somebody types, with the seconds that it takes. Its output goes to `log`.
typed() {
  local start=$EPOCHREALTIME
  eval "$1" >>log 2>&1 || { tail -n 20 log >&2; fail "failed: $1"; }
  awk -v from="$start" -v to="$EPOCHREALTIME" -v what="$1" 'BEGIN { printf "%6.1f s  %s\n", to - from, what }'
}
# All files but those that apt and dpkg keep for themselves, and those of the user.
files() {
  find / -xdev \( -path /proc -o -path /dev -o -path /sys -o -path /tmp -o -path /root -o -path /packages -o -path /var/lib/apt \
    -o -path /var/lib/dpkg -o -path /var/cache/apt -o -path /var/cache/ldconfig -o -path /var/cache/debconf -o -path /var/log -o -path /run \) -prune -o -print | sort
}

# --- the publisher ---
typed "apt-get update"
files >before
typed "apt-get install -y /packages/hfl_*.deb"

# An image to publish: a kernel with its modules is what a boot needs of one.
kernel=linux-image-$(dpkg --print-architecture)
[ "$kernel" != linux-image-amd64 ] || kernel=linux-image-cloud-amd64
kernel=$(apt-cache depends "$kernel" | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p')
(cd /tmp && apt-get -q download "$kernel" >/dev/null 2>&1 && dpkg -x "$kernel"_*.deb /root/tree) || fail "no $kernel"
[ -e tree/lib ] || ln -s usr/lib tree/lib
depmod -b tree "${kernel#linux-image-}"
mkdir -p tree/etc && cp /etc/os-release tree/etc/

typed "hfl publish tree --fs ext4 --to public/ --name small --boot"
ls public/boot/small/boot.ipxe public/boot/small/grub.cfg >/dev/null || fail "no menus"
ls public/client/hfl-mount-* >/dev/null || fail "the client was not published"
hfl serve public --listen 127.0.0.1:0 >serving &
server=$!
for _ in $(seq 100); do grep -q http serving && break; sleep 0.1; done
url=$(grep -o 'http://[0-9.:]*' serving)/small
key=$(tail -n 1 .config/hfl/keys/small.pub)
same() { cmp "tree/boot/vmlinuz-${kernel#linux-image-}" "$1/boot/vmlinuz-${kernel#linux-image-}"; }

# --- the client: from nothing to a mounted image ---
start=$EPOCHREALTIME
typed "apt-get install -y /packages/hfl-mount_*.deb"
typed "hfl-mount --key $key $url /mnt"
awk -v from="$start" -v to="$EPOCHREALTIME" 'BEGIN { printf "from nothing to a mounted image: %.1f s\n", to - from }'
[ -f /mnt/small ] || fail "no image in the mount"
typed "hfl-mount status /mnt"
mkdir /system
typed "mount -o loop,ro /mnt/small /system"
same /system || fail "the mounted image differs"
typed "umount /system"
typed "umount /mnt"
typed "mount -t hfl -o key=$key $url /mnt"
same /mnt || fail "mount -t hfl shows something else"
typed "umount /mnt"
for _ in $(seq 100); do pidof hfl-mount >/dev/null || break; sleep 0.1; done
! pidof hfl-mount || fail "hfl-mount still runs after umount"
typed "hfl-mount fetch --key $key $url"

# --- what else the packages have ---
for page in hfl hfl-publish hfl-mount; do [ -e /usr/share/man/man1/$page.1.gz ] || [ ! -d /usr/share/man/man1 ] || fail "no page $page"; done
bash -ec 'for part in hfl hfl-mount; do . /usr/share/bash-completion/completions/$part; complete -p $part; done' >>log

for file in initramfs-tools/hooks/hfl initramfs-tools/scripts/init-premount/hfl; do
  [ -x /usr/share/$file ] || fail "/usr/share/$file cannot be run"
done
[ -x /usr/lib/hfl/hfl-root ] && [ -x /usr/lib/dracut/modules.d/95hfl/module-setup.sh ] || fail "the scripts of an initrd cannot be run"

# --- and gone ---
kill "$server"
wait "$server" || true
typed "apt-get purge -y --autoremove hfl hfl-mount"
rmdir /system
files >after
# Records of the versions that were published and seen are the user's.
left=$(comm -13 before after | grep -v '^/var/lib/hfl\(/\|$\)' || true)
[ -z "$left" ] || fail "left behind by the purge: $left"
[ -d /root/.config/hfl/keys ] && [ -d /root/public ] || fail "the purge removed the user's files"
echo "nothing is left but /root and /var/lib/hfl"
