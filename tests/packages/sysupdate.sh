#!/usr/bin/env bash
# sysupdate.sh - runs in a Debian 13 with the packages in /packages: systemd-sysupdate updates from the list of digests that a
# publish makes, and from whole images beside it.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root/sysupdate LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
mkdir -p "$HOME" && cd "$HOME"

fail() { echo "sysupdate.sh: $*" >&2; exit 1; }
apt-get -q update >/dev/null
apt-get -q install -y --no-install-recommends /packages/hfl_*.deb systemd-container >/dev/null 2>&1
sysupdate=/usr/lib/systemd/systemd-sysupdate
[ -x "$sysupdate" ] || fail "no systemd-sysupdate"

mkdir site target definitions
for version in 1 2; do
  head -c 3M /dev/urandom >debian.img
  hfl publish debian.img --to public/ --whole-sha256 -q
  hfl restore "public/debian@$version" "site/debian_$version.img" -q
done
cp public/sums/debian/SHA256SUMS site/
hfl serve site --listen 127.0.0.1:0 >serving 2>/dev/null &
trap 'kill %1' EXIT
for _ in $(seq 100); do grep -q http serving && break; sleep 0.1; done
cat >definitions/debian.transfer <<END
[Transfer]
Verify=no
[Source]
Type=url-file
Path=$(grep -o 'http://[0-9.:]*' serving)/
MatchPattern=debian_@v.img
[Target]
Type=regular-file
Path=$PWD/target
MatchPattern=debian_@v.img
END
update() { "$sysupdate" --definitions="$PWD/definitions" --verify=no "$@"; }
update list
update update
cmp target/debian_2.img site/debian_2.img || fail "the image was not updated"
# It trusts the list: an image that differs from it is refused.
rm target/debian_2.img
echo damage >>site/debian_2.img
! update update 2>refused || fail "a damaged image was taken"
echo "refused: $(tail -n 1 refused)"
apt-get -q purge -y hfl >/dev/null 2>&1
