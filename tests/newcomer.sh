#!/usr/bin/env bash
# newcomer.sh DIRECTORY DOCUMENT... - types every command of the documents' `sh` blocks, as it is written, and expects success.
#
# DIRECTORY has bin/hfl, bin/hfl-mount, old.img, new.img and debian.img, which is the largest. Runs in namespaces of its own (of
# mounts, network and processes), which tests/it/publish/newcomer.rs makes. Only this is put in place of what is written: names
# that stand for something (RWQ..., SOURCE, `...`), addresses, disks and files of others, and version 41. What needs another
# machine is left out, and told.
set -uo pipefail
lab=$1
shift
cd "$lab" || exit 1
export HOME=$lab/home PATH=$lab/bin:$PATH:/usr/sbin:/sbin HFL_CONFIG=$lab/config GITHUB_STEP_SUMMARY=$lab/summary LC_ALL=C.UTF-8
export XDG_STATE_HOME=$lab/state XDG_CACHE_HOME=$lab/cache
unset CI HFL_KEY XDG_CONFIG_HOME
url=http://127.0.0.1:8080
failed=0 ran=0 left_out=0

# --- the world of a newcomer ---

ip link set lo up 2>/dev/null || ifconfig lo up
mount -t tmpfs tmpfs /mnt
mkdir -p "$HOME" "$lab/sbin" "$lab/point" "$lab/image" "$lab/config" out rootfs/etc
ln -s "$lab/bin/hfl-mount" "$lab/sbin/mount.hfl"
# mount(8) looks for its helper in /sbin alone.
mount -t overlay -o "lowerdir=$lab/sbin:/usr/sbin" overlay /usr/sbin || exit 1

quietly() { "$@" >>"$lab/log" 2>&1 || { echo "newcomer.sh: failed: $*"; tail -n 20 "$lab/log"; exit 1; }; }
[ -z "${HFL_STATIC_CLIENT:-}" ] || printf '[publish]\nclient = ["%s"]\n' "$HFL_STATIC_CLIENT" >mirrors.toml
printf '[[mirror]]\nname = "local"\nwrite = "./public"\nread = "%s/"\nread-back = false\n' "$url" >>mirrors.toml
cp old.img debian-ps3.img
for image in debian-ps3 image; do
  quietly hfl publish old.img --name $image --to mirrors.toml
  quietly hfl publish new.img --name $image --to mirrors.toml
done
cp new.img debian-ps3.img
cp new.img image.img
cp old.img root.img
echo made >rootfs/etc/made
for part in one two; do xz -1 -c old.img >out/$part.img.xz; done
! command -v qemu-img >/dev/null || quietly qemu-img convert -f raw -O qcow2 old.img debian.qcow2
for label in 1 2 3; do quietly hfl publish debian.img --to mirrors.toml --force --label $label; done
key=$(tail -n 1 "$HOME/.config/hfl/keys/debian-ps3.pub")
printf 'source = "%s/debian-ps3"\nkey = "%s"\n' "$url" "$key" >config/debian-ps3.toml
# A disk with a partition that holds the image's file system.
truncate -s 80M disk.img
printf 'start=2048,size=2048\nstart=4096\n' | quietly sfdisk -q disk.img
dd if=old.img of=disk.img bs=1M seek=2 conv=notrunc status=none
quietly hfl publish disk.img --to mirrors.toml
truncate -s "$(stat -Lc %s debian.img)" blank.img
cp blank.img slot.img
blank=$(losetup --find --show blank.img) slot=$(losetup --find --show slot.img)
client=$(cd public/client 2>/dev/null && ls hfl-mount-*-linux-* | grep -v minisig | head -n 1)
signature=$(cd public/client 2>/dev/null && ls hfl-mount-*.minisig | head -n 1)

# --- what is typed ---

# why_not COMMAND: why it cannot be run here; nothing for one that can.
why_not() {
  case $1 in
    'cargo build '* | 'RUSTFLAGS='* | 'cargo install '* | 'templates/package/build '* | tests/*) echo "it builds or tests hfl, which CI does" ;;
    'apt install '* | 'dnf install '* | 'tar -C /usr/local '*) echo "tests/packages.sh installs the packages" ;;
    'systemctl '*) echo "no systemd runs here" ;;
    *initramfs* | *dracut*) echo "the tests of boots do it in a whole system" ;;
    *power*) echo "the tests of cross compilers do it" ;;
    *'boot try'* | *'--profile auto'*) [ -n "${HFL_NEWCOMER_BOOTS:-}" ] || echo "only --full boots a real system" ;;
    *--boot*) [ -n "${HFL_STATIC_CLIENT:-}" ] || echo "HFL_STATIC_CLIENT names no static client" ;;
    *qemu-img* | *qcow2*) command -v qemu-img >/dev/null || echo "no qemu-img" ;;
    *erofs*) command -v mkfs.erofs >/dev/null || echo "no mkfs.erofs" ;;
    *minisign* | *mirror.example/hfl/client/*) [ -n "$client" ] && command -v minisign >/dev/null || echo "no client was published, or no minisign" ;;
  esac
}

# real COMMAND: the command with real names.
real() {
  sed -e "s|RWQ\.\.\.|$key|g; s|https://mirror.example/hfl/client/hfl-mount-0.1.0-x86_64-linux-1f3a9c2b7d10.0a1b2c3d4e5f.minisig|$url/client/$signature|g" \
    -e "s|hfl-mount-0.1.0-x86_64-linux-1f3a9c2b7d10.0a1b2c3d4e5f.minisig|$signature|g; s|hfl-mount-0.1.0-x86_64-linux-1f3a9c2b7d10|$client|g" \
    -e "s|https://mirror.example/hfl|$url|g; s|/debian debian.img|/debian restored.img|; s|/dev/sdb2|$slot|g; s|/dev/sdb|$blank|g; s|@41|@1|g" \
    -e "s|/tmp/image|$lab/image|g; s|/tmp/hfl.sock|$lab/hfl.sock|g; s|SOURCE|$url/debian-ps3|g" \
    -e "s|^hfl publish --profile boot.profile \.\.\.|hfl publish debian-ps3.img --to mirrors.toml --profile boot.profile|" \
    -e "s|^\(hfl-mount --[a-z]* [^ ]*\) \.\.\.|\1 --key $key $url/debian-ps3 $lab/point|" <<<"$1"
}

serve() { hfl serve public -q 2>>"$lab/log" & until curl -sf "$url/images" >/dev/null; do sleep 0.1; done; }
# Undoes what a block has started.
clean_up() {
  local place
  for place in /mnt /mnt "$lab/image" "$lab/point"; do umount "$place" 2>/dev/null; done
  kill $(jobs -p) 2>/dev/null
  wait 2>/dev/null
  rm -f back.img debian_3.img restored.img
  mount -t tmpfs tmpfs /mnt
}

type_command() {
  local why command
  why=$(why_not "$1")
  if [ -n "$why" ]; then
    echo "left out: $1  ($why)"
    left_out=$((left_out + 1))
    return
  fi
  command=$(real "$1")
  ran=$((ran + 1))
  case $command in
    *'& '* | *' &') eval "$command" >>"$lab/log" 2>&1; sleep 1; return ;;
    # It goes on until it is stopped: by one signal, where timeout would also send one to the process group.
    'hfl serve '*) command="timeout --foreground --preserve-status -s INT 1 $command" ;;
  esac
  # What the text around the command says is there.
  case $command in
    'hfl-mount status '*) quietly hfl-mount --key "$key" "$url/debian-ps3" "$lab/image" ;;
    *debian-ps3*--in-place) quietly cp --sparse=never old.img "$slot" ;;
    *--in-place) quietly cp debian.img "$slot" ;;
  esac
  local start=$EPOCHREALTIME
  if ! (eval "$command") >"$lab/said" 2>&1 </dev/null; then
    failed=$((failed + 1))
    printf 'FAILED: %s\n   with: %s\n' "$1" "$command"
    cat "$lab/said"
  fi
  awk -v from="$start" -v to="$EPOCHREALTIME" -v what="$1" 'BEGIN { printf "%6.1f s  %s\n", to - from, what }'
  # What was noted is written when the mount ends.
  case $command in *"$lab/point") cat "$lab/point/debian-ps3" >/dev/null; umount "$lab/point"; sleep 1 ;; esac
}

for document; do
  echo "== $document"
  block='' command=''
  while IFS= read -r line; do
    case $block$line in
      '```sh') block='> ' starts='' ;;
      '> ```') block=''; clean_up ;;
      '> '*)
        [ -n "$starts" ] || case $line in 'hfl serve '*) starts=1 ;; *) serve; starts=1 ;; esac
        command+=${line%\\}
        case $line in *\\) continue ;; esac
        type_command "${command%%  *#*}"
        command=''
        ;;
    esac
  done <"$document"
done
losetup -d "$blank" "$slot"
umount /mnt 2>/dev/null
echo "$ran commands typed, $failed failed, $left_out left out"
[ "$failed" = 0 ]
