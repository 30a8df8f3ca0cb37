# The root file system of a boot, for the init of the miniroot and for the initrds of distributions: from the options of
# options.sh to a mounted root. Sourced by sh; the caller defines
#
#   $hfl, $newroot        a directory of its own, and where the root file system is mounted
#   fail WHY [WHAT]       ends the boot
#   wait_for_modules      returns when the modules of disks and file systems are there

# For whoever looks again and again.
pause() { sleep 0.1 2>/dev/null || sleep 1; }

# --- disks ---

# disk WHAT: the device that is meant, when it has come.
disk() {
  local tries=0 found
  while [ $tries -lt 15 ]; do
    case $1 in
      /dev/*) [ -b "$1" ] && found=$1 ;;
      PARTLABEL=*) found=$(grep -lsx "PARTNAME=${1#*=}" /sys/class/block/*/uevent | sed -n '1s,.*/\([^/]*\)/uevent,/dev/\1,p') ;;
      *) found=$(findfs "$1" 2>/dev/null) ;;
    esac
    [ -z "$found" ] || { echo "$found"; return 0; }
    tries=$((tries + 1))
    sleep 1
  done
  return 1
}

use_cache() {
  [ -n "$cache" ] && [ "$cache" != off ] || { cache_options=--no-cache; return 0; }
  local device room
  wait_for_modules
  cache_options=--no-cache
  device=$(disk "$cache") || { warn "hfl.cache=$cache: no such disk; blocks are not kept"; return 0; }
  ! is_member "$device" || { warn "hfl.cache=$cache: $device is a member of a RAID or of DRBD; blocks are not kept"; return 0; }
  mkdir -p $hfl/cache
  mount -o noatime "$device" $hfl/cache || { warn "hfl.cache=$cache: $device cannot be mounted; blocks are not kept"; return 0; }
  # Nine tenths of what is free, or held by blocks already.
  mkdir -p $hfl/cache/hfl
  room=$({ df -Pk $hfl/cache | awk 'END { print $4 }'; du -sk $hfl/cache/hfl; } | awk '{ kib += $1 } END { printf "%.0f", kib }')
  cache_options="--cache $hfl/cache/hfl/blocks --cache-size $((room / 10 * 9))K"
  # What was seen before is remembered there, too: no older version is taken for the newest again.
  export XDG_STATE_HOME=$hfl/cache
}

# --- the image ---

# What the client may hold decoded: with too little, a boot without a cache disk fetches blocks a second time.
block_memory() {
  [ -z "$block_memory" ] || { echo "$block_memory"; return; }
  awk '$1 == "MemTotal:" { m = int($2 / 8192); print (m < 20 ? 20 : m > 256 ? 256 : m) "M" }' /proc/meminfo
}

# Shows what the client has said since the last time.
show_said() {
  local lines
  lines=$(wc -l </run/hfl/said)
  [ "$lines" -le "$shown" ] || { sed -n "$((shown + 1)),${lines}p" /run/hfl/said; shown=$lines; }
}

# said WORD: the last line of the client that begins so, without it.
said() { sed -n "s/^$1: //p" /run/hfl/said | tail -n 1; }

field() { sed -n "s/^  \"$1\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" /run/hfl/status.json; }

mount_image() {
  local base sources= settings= until=$(($(now) + timeout)) code why advice shown=0
  [ -z "$name" ] || settings=/etc/hfl/$name.toml
  [ -n "$name" ] && { [ -n "$url" ] || [ -s "$settings" ]; } ||
    fail "nobody says which image" "add root=hfl:http://HOST/PATH/NAME, or hfl.url=http://HOST/PATH/ hfl.name=NAME"
  for base in $url; do sources="$sources ${base%/}/$name"; done
  : "${sources:= $name}"
  set -- --root --foreground --log /run/hfl/log --memory "$(block_memory)" $cache_options
  if [ -s $hfl/key ]; then key=$hfl/key; fi
  [ -n "$key" ] || [ -s "$settings" ] ||
    fail "nobody says whose signature counts" "build the miniroot with the public key, or add hfl.key=KEY"
  [ -z "$key" ] || set -- "$@" --key "$key"
  [ -z "$version" ] || set -- "$@" --version "$version"
  [ -z "$debug" ] || set -- "$@" --verbose
  case $profile in off | none) set -- "$@" --no-profile ;; esac
  case $readahead in off | none) set -- "$@" --no-readahead ;; esac
  [ -z "$only" ] || set -- "$@" --only
  mkdir -p $hfl/fs
  say "$name from$sources"
  : >/run/hfl/said
  hfl-mount "$@" $sources $hfl/fs </dev/null >/run/hfl/said 2>&1 &
  daemon=$!
  until [ -e "$hfl/fs/$name" ]; do
    show_said
    if ! kill -0 "$daemon" 2>/dev/null; then
      wait "$daemon"; code=$?
      show_said
      why=$(said "hfl-mount: error") advice=$(said hint)
      case $code in
        2) fail "the client does not understand its options" "check the hfl. words of the kernel command line" ;;
        3) fail "what the mirrors say does not verify: $why" \
          "${advice:-is it the publisher's key that is in the miniroot? rebuild it, or try another mirror}" ;;
        4) fail "no mirror can be reached: $why" "check hfl.url and the network" ;;
        *) fail "the client ended with code $code${why:+: $why}" "${advice:-its last words are above}" ;;
      esac
    fi
    if [ "$(now)" -ge "$until" ]; then
      kill -KILL "$daemon"
      why=$(said hfl-mount)
      fail "no mirror of $name answers${why:+: $why}" "check hfl.url and the network; hfl.timeout=S waits longer"
    fi
    pause
  done
  show_said
  pids="$pids $daemon"
  hfl-mount status --json $hfl/fs >/run/hfl/status.json
  running=$(digits "$(field version)" 4294967295) && size=$(digits "$(field size)" $((1 << 50))) ||
    fail "the client does not say what it has mounted" "is the hfl-mount in this miniroot the one that was built with it?"
  [ "$running" -ge "$min_version" ] ||
    fail "the mirrors have version $running of $name, this miniroot takes $min_version or newer" \
      "use a mirror that is up to date"
}

# bytes_at FILE OFFSET COUNT: in hexadecimal.
bytes_at() { dd if="$1" bs=1 skip="$2" count="$3" 2>/dev/null | od -An -tx1 | tr -d ' \n'; }

# is_at FILE OFFSET MAGIC: whether these bytes, in hexadecimal, are there.
is_at() { [ "$(bytes_at "$1" "$2" $(($(length "$3") / 2)))" = "$3" ]; }

# Whether only an overlay can be written to.
is_read_only_kind() {
  case $(bytes_at "$1" 0 4) in 68737173) return 0 ;; esac
  case $(bytes_at "$1" 1024 4) in e2e1f5e0) return 0 ;; esac
  case $(bytes_at "$1" 32769 5) in 4344303031) return 0 ;; esac
  return 1
}

# in_bytes 512M: of what size_word or the init itself has made.
in_bytes() {
  local number=${1%[KMGkmg]}
  case $1 in
    *[Kk]) echo $((number << 10)) ;;
    *[Mm]) echo $((number << 20)) ;;
    *[Gg]) echo $((number << 30)) ;;
    *) echo $((number)) ;;
  esac
}

# What may be written at most, in bytes: all of the image and a little for the tables, or, where there is less memory, what
# that leaves to the system: 256 MiB or a quarter, but never three quarters, of what the client does not hold. With so much
# it lives on, and shuts down, when the limit is reached.
cow_bytes() {
  local memory wanted=$((size + size / 50 + 1048576))
  memory=$(awk -v blocks="$(($(in_bytes "$(block_memory)") >> 10))" '
    $1 == "MemAvailable:" || $1 == "SwapFree:" { kib += $2 }
    END {
      kib = kib > 2 * blocks ? kib - blocks : kib / 2
      left = kib / 4 > 262144 ? kib / 4 : 262144
      if (left > kib / 4 * 3) left = kib / 4 * 3
      printf "%.0f", int((kib - left) / 1024) * 1048576
    }' /proc/meminfo)
  [ -z "$1" ] || wanted=$(in_bytes "$1")
  if [ "$wanted" -le "$memory" ]; then
    echo "$wanted"
  else
    echo "$memory"
    say "at most $((memory >> 20)) MiB can be written; hfl.cow= with a disk gives more" >&2
  fi
}

ram_for_writes() {
  local bytes
  bytes=$(cow_bytes "$1")
  mkdir -p $hfl/rw
  mount -t tmpfs -o "size=$((bytes + 1048576)),mode=0755" hfl-rw $hfl/rw || fail "no memory for writes" "add memory, or hfl.cow= with a disk"
  ram_bytes=$bytes
}

# A store for writes on a disk: a file for each version where there is a file system, or else all of the device.
cow_on_disk() {
  local device
  device=$(disk "$cow") || fail "hfl.cow=$cow: no such disk" "see /proc/partitions"
  refuse_member "$device"
  mkdir -p $hfl/rw
  if mount -o noatime "$device" $hfl/rw 2>/dev/null; then cow_in_file "$device"; else cow_on_whole "$device"; fi
}

# is_member DEVICE: whether a RAID or a DRBD resource has its superblock behind what is on it: of what would be written to this
# disk the others would not know. The places are those of md 1.0 and 0.90, Intel's and DDF's RAIDs, and DRBD.
is_member() {
  local sectors offset magic
  sectors=$(digits "$(blockdev --getsz "$1")" $((1 << 54))) && [ "$sectors" -gt 256 ] || return 1
  while read -r offset magic; do
    ! is_at "$1" "$offset" "$magic" || return 0
  done <<PLACES
$(((sectors - 16) / 8 * 4096)) fc4e2ba9
$(((sectors / 128 - 1) * 65536)) fc4e2ba9
$(((sectors - 2) * 512)) 496e74656c2052616964
$(((sectors - 1) * 512)) de11de11
$(((sectors / 8 - 1) * 4096 + 60)) 8374026b
$(((sectors / 8 - 1) * 4096 + 60)) 8374026c
$(((sectors / 8 - 1) * 4096 + 60)) 8374026d
PLACES
  return 1
}

refuse_member() {
  ! is_member "$1" ||
    fail "hfl.cow=$cow: $1 is a member of a RAID or of DRBD; it is left as it is" "name a disk that is no part of anything else"
}

cow_in_file() {
  mkdir -p $hfl/rw/hfl
  cow_file=$hfl/rw/hfl/$name-$running-$(field index | cut -c1-12).cow
  [ -e "$cow_file" ] || truncate -s $((size + size / 50 + 1048576)) "$cow_file" || fail "$1: no file can be made there"
  cow_device=$(hfl-mount device loop --write "$cow_file") || fail "no loop device for $cow_file"
}

# How much is checked at each end of a disk, in sectors of 512 bytes: 4 MiB. File systems, RAIDs, volume managers, pools and
# partition tables all have a signature there, or a copy of one.
ends=8192

# Uses all of a device: a line that says for which version, the store from byte 4096 on, and the last 4 MiB, which stay zeros.
# A RAID or pool that is made of the disk later may leave the line as it is, but not the end.
cow_on_whole() {
  local device=$1 sectors line
  sectors=$(digits "$(blockdev --getsz "$device")" $((1 << 54))) && [ "$sectors" -gt $((4 * ends)) ] ||
    fail "hfl.cow=$cow: $device is smaller than 16 MiB" "see /proc/partitions"
  line="HFL-COW 1 $name $running $(field index)"
  case $(whose "$device" "$sectors") in
    "$line") ;;
    'HFL-COW 1 '* | free) begin_store "$device" "$sectors" "$line" || fail "$device cannot be written to" ;;
    *)
      fail "hfl.cow=$cow: on $device is $(what_is "$device"), which this miniroot cannot mount; it is left as it is" \
        "make a file system there (mkfs.ext4); or give the miniroot the module of the one that is there (hfl boot build --modules); or let all of it be overwritten: { echo hfl-cow; head -c $((ends * 512)) /dev/zero; } >$device"
      ;;
  esac
  cow_device=$(hfl-mount device loop --write --offset 4096 --size $(((sectors - ends) * 512 - 4096)) "$device") ||
    fail "no loop device for $device"
}

# whose DEVICE SECTORS: the line of an earlier boot's store, `free` for a disk that may be overwritten, or nothing.
whose() {
  local line
  line=$(dd if="$1" bs=512 count=1 2>/dev/null | tr -d '\000')
  case $line in
    'HFL-COW 1 '*)
      # After the line zeros, then a snapshot's header (SnAp) or none yet, and zeros at the end.
      case $(bytes_at "$1" 4096 4) in 536e4170 | 00000000) ;; *) return ;; esac
      begins_with "$1" "$line" 8 && is_zeros "$1" $(($2 - ends)) $ends && echo "$line"
      ;;
    hfl-cow) begins_with "$1" "$line" $ends && echo free ;;
    '') is_zeros "$1" 0 $ends && is_zeros "$1" $(($2 - ends)) $ends && ! has_copy "$1" "$2" && echo free ;;
  esac
}

# has_copy DEVICE SECTORS: whether a copy of a superblock is left in the middle of it, of ext with blocks of 1 or 4 KiB or of btrfs.
has_copy() {
  local offset magic
  while read -r offset magic; do
    # Behind the end of a device busybox does not seek but reads, byte by byte.
    [ "$2" -gt $((offset / 512)) ] || return 1
    ! is_at "$1" "$offset" "$magic" || return 0
  done <<COPIES
8389688 53ef
67108928 5f42485266535f4d
134217784 53ef
COPIES
  return 1
}

# zeros DEVICE SECTOR COUNT: how many bytes of these sectors could be read and are zeros.
zeros() { dd if="$1" bs=512 skip="$2" count="$3" 2>/dev/null | tr -dc '\000' | wc -c; }

is_zeros() { [ "$(zeros "$@")" -eq $(($3 * 512)) ]; }

# begins_with DEVICE LINE COUNT: whether these sectors at the beginning hold nothing but the line.
begins_with() { [ "$(zeros "$1" 0 "$3")" -eq $(($3 * 512 - $(length "$2") - 1)) ]; }

# begin_store DEVICE SECTORS LINE: the line comes last, so that after a power cut the next boot finds the disk as it was marked.
begin_store() {
  local first
  first=$(dd if="$1" bs=512 count=1 2>/dev/null | tr -d '\000')
  case $first in 'HFL-COW 1 '*) warn "$1: what was written on ${first#HFL-COW 1 } is dropped" ;; esac
  dd if=/dev/zero of="$1" bs=512 seek=$(($2 - ends)) count=$ends conv=notrunc,fsync 2>/dev/null &&
    dd if=/dev/zero of="$1" bs=4096 seek=1 count=31 conv=notrunc,fsync 2>/dev/null &&
    echo "$3" | dd of="$1" bs=4096 count=1 conv=sync,notrunc,fsync 2>/dev/null
}

# what_is DEVICE: the kind of what is on it, for messages alone. Nothing is decided by this.
what_is() {
  local offset magic kind
  while read -r offset magic kind; do
    ! is_at "$1" "$offset" "$magic" || { echo "$kind"; return; }
  done <<KINDS
65600 5f42485266535f4d btrfs
4096 fc4e2ba9 a member of a RAID
0 fc4e2ba9 a member of a RAID
4120 c68573f6 bcachefs or bcache
16384 010100000000000000000001 a member of a ZFS pool
0 4c554b53babe encrypted data (LUKS)
512 4c4142454c4f4e45 a volume of LVM
4086 5357415053504143 swap space
1080 53ef ext2, ext3 or ext4
0 58465342 XFS
1024 1020f5f2 F2FS
32768 4a465331 JFS
65588 526549734572 ReiserFS
3 4e54465320202020 NTFS
3 4558464154202020 exFAT
512 4546492050415254 a partition table
0 68666c2d636f770a a disk that was marked for hfl, with other data written since
0 48464c2d434f5720 a store of hfl with other data over it
510 55aa a partition table or FAT
KINDS
  echo "data of an unknown kind"
}

# A snapshot whose writes go elsewhere; when that is full, writing fails and reading goes on.
snapshot_root() {
  case $cow in
    '' | [0-9]*)
      ram_for_writes "$cow"
      truncate -s "$ram_bytes" $hfl/rw/cow
      cow_device=$(hfl-mount device loop --write $hfl/rw/cow) || fail "no loop device for the store of writes"
      ;;
    *) cow_on_disk ;;
  esac
  root_device=$(hfl-mount device snapshot hfl-root "$origin" "$cow_device") ||
    fail "the kernel makes no snapshot" "hfl.mode=overlay works without dm_snapshot"
  mount -o rw "$root_device" $newroot || fail "$name: no file system that this kernel can mount" "is its module in the miniroot?"
}

overlay_root() {
  local lower=$hfl/lower upper device
  mkdir -p $lower
  mount -o ro "$origin" $lower 2>/dev/null || mount -o ro,noload "$origin" $lower ||
    fail "$name: no file system that this kernel can mount" "is its module in the miniroot?"
  case $cow in
    '' | [0-9]*) ram_for_writes "$cow"; upper=$hfl/rw ;;
    *)
      mkdir -p $hfl/rw
      device=$(disk "$cow") || fail "hfl.cow=$cow: no such disk" "see /proc/partitions"
      refuse_member "$device"
      mount -o noatime "$device" $hfl/rw || fail "hfl.cow=$cow: no file system" "an overlay needs one there: mkfs.ext4"
      upper=$hfl/rw/hfl/$name-$running-$(field index | cut -c1-12)
      ;;
  esac
  mkdir -p "$upper/upper" "$upper/work"
  set -- "lowerdir=$lower,upperdir=$upper/upper,workdir=$upper/work"
  mount -t overlay -o "$1,redirect_dir=on,xino=on" overlay $newroot 2>/dev/null ||
    mount -t overlay -o "$1" overlay $newroot || fail "the kernel makes no overlay" "is the module overlay in the miniroot?"
}

mount_root() {
  mkdir -p $newroot
  wait_for_modules
  origin=$(hfl-mount device loop --direct "$hfl/fs/$name") || fail "no loop device" "is the module loop in the miniroot?"
  is_read_only_kind "$origin" && mode=overlay
  case ${mode:-snapshot} in
    snapshot) snapshot_root ;;
    overlay) overlay_root ;;
    *) fail "hfl.mode=$mode" "it is snapshot or overlay" ;;
  esac
}

# --- what the image's own programs have to leave alone; /run goes along into it ---

spare_devices() {
  local dm=${root_device##*/} device
  mkdir -p /run/udev/rules.d
  {
    for device in "$origin" "$cow_device"; do
      [ -z "$device" ] || echo "KERNEL==\"${device##*/}\", ENV{UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG}=\"1\""
    done
    [ -z "$dm" ] || cat <<RULES
KERNEL=="$dm", ENV{DM_UDEV_PRIMARY_SOURCE_FLAG}="1", OPTIONS+="link_priority=100", IMPORT{builtin}="blkid"
KERNEL=="$dm", SYMLINK+="mapper/hfl-root"
KERNEL=="$dm", ENV{ID_FS_UUID_ENC}=="?*", SYMLINK+="disk/by-uuid/\$env{ID_FS_UUID_ENC}"
KERNEL=="$dm", ENV{ID_FS_LABEL_ENC}=="?*", SYMLINK+="disk/by-label/\$env{ID_FS_LABEL_ENC}"
RULES
  } >/run/udev/rules.d/10-hfl.rules
}

# Where it is not the init, nothing may be in /run/systemd/system: that is how others find out.
has_systemd() {
  [ -e $newroot/lib/systemd/systemd ] || [ -e $newroot/usr/lib/systemd/systemd ] || return 1
  # It can be installed without being the init, which is a program of its own then.
  [ -h "$newroot${init:-/sbin/init}" ] || [ ! -f "$newroot${init:-/sbin/init}" ]
}

spare_network() {
  [ -n "$nic" ] || return 0
  local unit servers
  if has_systemd; then
    for unit in networking "ifup@$nic"; do
      mkdir -p "/run/systemd/system/$unit.service.d"
      printf '[Service]\nExecStop=\n' >"/run/systemd/system/$unit.service.d/hfl.conf"
    done
  else
    # Init scripts take no card away while a network file system is mounted; by this name they know one.
    mkdir -p /run/hfl/network
    mount -t tmpfs -o size=4k,mode=0700,nosuid,nodev,noexec curlftpfs-hfl /run/hfl/network
  fi
  mkdir -p /run/systemd/network /run/NetworkManager/conf.d /run/systemd/resolved.conf.d
  printf '[Match]\nName=%s\n[Link]\nUnmanaged=yes\n' "$nic" >/run/systemd/network/00-hfl.network
  printf '[Match]\nMACAddress=%s\n[Link]\nNamePolicy=keep\n' "$(cat "/sys/class/net/$nic/address")" >/run/systemd/network/00-hfl.link
  servers=$(awk '$1 == "nameserver" { printf "%s%s", sep, $2; sep = " " }' /etc/resolv.conf 2>/dev/null)
  printf '[keyfile]\nunmanaged-devices+=interface-name:%s\n[device-hfl]\nmatch-device=interface-name:%s\nmanaged=0\n' "$nic" "$nic" \
    >/run/NetworkManager/conf.d/99-hfl.conf
  [ -n "$servers" ] || return 0
  # Whoever is told to leave the card alone does not learn its name servers either.
  printf '[global-dns]\n[global-dns-domain-*]\nservers=%s\n' "$(echo "$servers" | tr ' ' ,)" >>/run/NetworkManager/conf.d/99-hfl.conf
  printf '[Resolve]\nDNS=%s\n' "$servers" >/run/systemd/resolved.conf.d/hfl.conf
  cp /etc/resolv.conf /run/hfl/resolv.conf
  if [ -f $newroot/etc/resolv.conf ] && [ ! -h $newroot/etc/resolv.conf ] && ! grep -qs '^nameserver' $newroot/etc/resolv.conf; then
    mount -o bind /run/hfl/resolv.conf $newroot/etc/resolv.conf
  fi
}

# A system that has written all it may can have processes that hear no signal but the last one. What it holds in memory is
# lost at its end anyway, so nobody waits for a minute and a half.
hurry_the_end() {
  [ -n "$ram_bytes" ] || return 0
  mkdir -p /run/systemd/system.conf.d
  printf '[Manager]\nDefaultTimeoutStopSec=12s\n' >/run/systemd/system.conf.d/00-hfl.conf
}

# sysvinit kills everybody but these.
spare_processes() {
  local pid
  mkdir -p /run/sendsigs.omit.d
  for pid in $pids; do echo "$pid" >"/run/sendsigs.omit.d/hfl-$pid"; done
  echo "$daemon" >/run/hfl/pid
}
