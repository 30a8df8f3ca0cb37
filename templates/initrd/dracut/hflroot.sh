#!/bin/sh
# Handler of dracut for root=hfl: hflroot CARD ROOT NEWROOT, called once a network card has an address.

command -v getarg >/dev/null || . /lib/dracut-lib.sh

case $2 in hfl:*) ;; *) exit 1 ;; esac
[ ! -e /run/hfl/pid ] || exit 0
# To the console, unless the boot is quiet, and to the journal.
/usr/lib/hfl/hfl-root "$3" "$1" >/dev/kmsg 2>&1 || die "hfl: no root file system"
# What dracut takes for a root device.
[ -e /dev/root ] || ln -s null /dev/root
