#!/bin/sh
# Cmdline hook of dracut: root=hfl:URL/NAME needs the network, and is handled by hflroot. Sourced.

[ -n "$root" ] || root=$(getarg root=)
if [ "${root%%:*}" = hfl ]; then
  netroot=$root
  # shellcheck disable=SC2034
  rootok=1
  # Nobody else waits for it or mounts it.
  root=hfl
  # shellcheck disable=SC2016,SC2154
  echo '[ -d "$NEWROOT/proc" ]' >"$hookdir/initqueue/finished/hflroot.sh"
  # systemd-networkd does nothing of itself; ip= is read by its generator, and sorts before this.
  mkdir -p /run/systemd/network
  printf '[Match]\nType=ether\n[Network]\nDHCP=yes\n' >/run/systemd/network/zzzz-hfl.network
fi
