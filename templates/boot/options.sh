# Options of a boot, for the init of the miniroot and for the initrds of distributions: read and checked. Sourced by sh.

say() { echo "hfl: $*"; }
warn() { say "warning: $*"; }
now() { cut -d. -f1 /proc/uptime; }

# say_failure WHY [WHAT TO DO]: that, and the last words of the client.
say_failure() {
  say "cannot boot: $1"
  [ -z "$2" ] || say "what to do: $2"
  [ ! -s /run/hfl/log ] || { say "the client said at last:"; tail -n 5 /run/hfl/log; }
}

read_cmdline() {
  local word said=
  for word in $(cat /proc/cmdline); do
    case $word in
      hfl.url=*) said="$said $(echo "${word#*=}" | tr , ' ')" ;;
      # From a menu that knows no mirror: where it lies itself, below the mirror's base URL.
      hfl.boot=*) booted_from=${word#*=} ;;
      hfl.name=*) name=${word#*=} ;;
      root=hfl:*) read_source "${word#root=hfl:}" ;;
      hfl.key=* | rd.hfl.key=*) key=${word#*=} ;;
      hfl.version=*) version=${word#*=} ;;
      hfl.mode=*) mode=${word#*=} ;;
      hfl.cow=*) cow=${word#*=} ;;
      hfl.cache=*) cache=${word#*=} ;;
      hfl.profile=*) profile=${word#*=} ;;
      hfl.memory=*) block_memory=${word#*=} ;;
      hfl.readahead=*) readahead=${word#*=} ;;
      hfl.only) only=1 ;;
      hfl.swap=*) swap=${word#*=} ;;
      hfl.timeout=*) timeout=${word#*=} ;;
      hfl.debug) debug=1 ;;
      ip=*) ip=${word#*=} ;;
      BOOTIF=*) bootif=$(echo "${word#*=}" | cut -c4- | tr 'A-F-' 'a-f:') ;;
      init=*) init=${word#*=} ;;
      panic=*) panic=${word#*=} ;;
    esac
  done
  [ -z "$said" ] || url=$said
  [ -n "$url" ] || [ -z "$booted_from" ] || url=${booted_from%%/boot/*}/
}

# read_source SOURCE: as hfl-mount has them, URL/NAME[@VERSION], or the NAME of a configuration.
read_source() {
  local source=$1
  case ${source##*/} in *@*) version=${source##*@} source=${source%@*} ;; esac
  name=${source##*/}
  [ "$name" = "$source" ] || said="$said ${source%/*}/"
}

length() { printf %s "$1" | wc -c; }

# digits TEXT MAX: the number that a text is, without leading zeros. Fails where it is not a number, or more than MAX. All text
# from outside goes through this before $((...)) sees it: an arithmetic error ends the shell, and with it the kernel.
digits() {
  local number=$1
  case $number in '' | *[!0-9]*) return 1 ;; esac
  while [ "$number" != "${number#0?}" ]; do number=${number#0}; done
  # More than 18 digits are more than a shell can compare.
  [ "$(length "$number")" -le 18 ] && [ "$number" -le "$2" ] && echo "$number"
}

# size_word TEXT: a size as 512M or 2G, without leading zeros. In bytes it still fits into 63 bits.
size_word() {
  local number=${1%[KMGkmg]} unit= most=$((1 << 62))
  case $1 in *[KMGkmg]) unit=${1#"$number"} most=$((1 << 32)) ;; esac
  number=$(digits "$number" "$most") && echo "$number$unit"
}

# Checks all numbers of the command line and /hfl/config: a bad one is warned of, and its default taken.
check_numbers() {
  local said
  said=$timeout
  timeout=$(digits "${said:-300}" 86400) || { timeout=300; warn "hfl.timeout=$said: not a number up to 86400; 300 is taken"; }
  case $panic in -[0-9]*) panic=1 ;; esac
  said=$panic
  panic=$(digits "${said:-0}" 86400) || { panic=0; warn "panic=$said: not a number up to 86400; a failure ends in a shell"; }
  said=$block_memory
  [ -z "$said" ] || block_memory=$(size_word "$said") ||
    warn "hfl.memory=$said: not a size as in 64M; an eighth of the memory is taken"
  said=$cow
  case $cow in
    [0-9]*) cow=$(size_word "$said") || warn "hfl.cow=$said: neither a size as in 512M nor a disk; the default is taken" ;;
  esac
  min_version=$(digits "${min_version:-0}" 4294967295) || fail "the miniroot's HFL_MIN_VERSION is no number" "build it again"
  [ -z "$version" ] || check_version
}

# The menu that asks for a version comes from a mirror and is not signed, so HFL_MIN_VERSION holds for it, too. The menu entry
# of the previous version boots that version's own miniroot, which has a minimum of its own.
check_version() {
  local number
  number=$(digits "$version" 4294967295) || fail "hfl.version=$version is no version" "it is a number, as in hfl.version=41"
  version=$number
  [ "$version" -ge "$min_version" ] ||
    fail "hfl.version=$version: this miniroot takes $min_version or newer" \
      "boot version $version with its own kernel and miniroot, or make a miniroot for it with hfl boot build"
}
