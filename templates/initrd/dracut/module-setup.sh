#!/bin/bash
# Module of dracut: puts hfl-mount into the initrd, so that it boots from `root=hfl:URL/NAME`.
# /usr/lib/dracut/modules.d/95hfl; add it with `dracut --add hfl`, or add_dracutmodules+=" hfl " in /etc/dracut.conf.d.

# called by dracut
check() {
  require_binaries hfl-mount || return 1
  # Only where it is asked for: it brings the network.
  return 255
}

# called by dracut
depends() {
  echo network
}

# called by dracut
installkernel() {
  local modules
  mapfile -t modules </usr/lib/hfl/modules
  hostonly='' instmods "${modules[@]}"
}

# called by dracut
install() {
  local file tools
  mapfile -t tools </usr/lib/hfl/tools
  inst_multiple hfl-mount "${tools[@]}"
  for file in /usr/lib/hfl/{hfl-root,options.sh,root.sh} /etc/hfl/*; do
    [[ ! -f $file ]] || inst_simple "$file"
  done
  inst_hook cmdline 90 "$moddir/parse-hfl.sh"
  inst_hook initqueue/settled 90 "$moddir/online.sh"
  # shellcheck disable=SC2154
  inst_script "$moddir/hflroot.sh" /sbin/hflroot
  dracut_need_initqueue
}
