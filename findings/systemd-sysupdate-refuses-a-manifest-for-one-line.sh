#!/usr/bin/env bash
# systemd-sysupdate: one line of SHA256SUMS that sha256sum takes and it does not makes it refuse the whole file.
#
# Version: systemd 257.13-1~deb13u1 (Debian 13, package systemd-container), source of Type=url-file.
# Behaviour: SHA256SUMS of a directory tree (`sha256sum $(find -type f)`) is no manifest: a name with a `/` in it, `./` before
#   a name too, ends the update, although the line matches no pattern and the image has a good line of its own. So do a comment,
#   an empty line and the form of --tag; a missing last line feed counts as a truncated file. sha256sum --check takes all of
#   them. Digits may be capital, and the mark of a binary file (`*`) may be there or not. A list for systemd-sysupdate has
#   nothing but files of its own directory.
# Output seen:
#   the image alone: rc 0, candidate
#   and boot/vmlinuz: rc 1, Invalid filename specified at manifest line 2, refusing.
#   ./ before the name: rc 1, Invalid filename specified at manifest line 1, refusing.
#   a comment: rc 1, Failed to parse digest at manifest line 1, refusing.
#   --tag: rc 1, Failed to parse digest at manifest line 1, refusing.
#   no last line feed: rc 1, Truncated manifest file at line 1, refusing.
#   an empty line: rc 1, Corrupt manifest at line 2, refusing.
#   capital digits, no mark: rc 0, candidate
#
# Needs root, mmdebstrap, unshare, python3, and a Debian archive with Debian 13.
set -euo pipefail
self=$(realpath "$0")
version=257.13-1~deb13u1
if [ "${1:-}" != inside ]; then
  work=$(mktemp -d)
  trap 'rm -rf --one-file-system "$work"' EXIT
  chmod 755 "$work"
  archive=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | grep -v security | sort -u | head -n 1)
  mmdebstrap --quiet --mode=root --variant=extract --include=systemd-container trixie "$work/root" "deb $archive trixie main" >/dev/null 2>&1
  chroot "$work/root" /usr/lib/systemd/systemd-sysupdate --version | grep -qF "($version)" ||
    { echo "this version cannot be had" >&2; exit 1; }
  unshare --mount --net --pid --fork --kill-child bash "$self" inside "$work"
  exit
fi

# In namespaces of its own: what is mounted and served here ends with them.
work=$2 root=$2/root
mount --make-rprivate /
mkdir -p "$root/proc" "$root/dev" "$root/target" "$root/definitions" "$work/site/boot"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
ip link set lo up
cd "$work/site"
echo image >os_1.img
echo kernel >boot/vmlinuz
python3 -m http.server 8000 --bind 127.0.0.1 >/dev/null 2>&1 &
until (: </dev/tcp/127.0.0.1/8000) 2>/dev/null; do sleep 0.1; done
cat >"$root/definitions/os.transfer" <<'END'
[Transfer]
Verify=no
[Source]
Type=url-file
Path=http://127.0.0.1:8000/
MatchPattern=os_@v.img
[Target]
Type=regular-file
Path=/target
MatchPattern=os_@v.img
END

# takes WHAT: what becomes of the list on standard input, which sha256sum takes.
takes() {
  local code=0
  cat >SHA256SUMS
  sha256sum --check --quiet SHA256SUMS
  chroot "$root" /usr/lib/systemd/systemd-sysupdate --definitions=/definitions --verify=no list >"$work/said" 2>&1 || code=$?
  echo "$1: rc $code, $(tail -n 1 "$work/said" | grep -o 'candidate$\|[A-Z].*$')"
}
line=$(sha256sum -b os_1.img)
{
  takes 'the image alone' <<<"$line"
  sha256sum -b os_1.img boot/vmlinuz | takes 'and boot/vmlinuz'
  sha256sum -b ./os_1.img | takes './ before the name'
  printf '# of today\n%s\n' "$line" | takes 'a comment'
  sha256sum --tag os_1.img | takes '--tag'
  printf %s "$line" | takes 'no last line feed'
  printf '%s\n\n' "$line" | takes 'an empty line'
  sha256sum os_1.img | sed 's/^[0-9a-f]*/\U&/' | takes 'capital digits, no mark'
} | tee "$work/seen"
sed -n '/^# Output seen:/,/^#$/ s/^#   //p' "$self" | diff - "$work/seen"
