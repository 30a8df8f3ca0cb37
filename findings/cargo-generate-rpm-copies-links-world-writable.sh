#!/usr/bin/env bash
# cargo-generate-rpm: a symbolic link among the assets becomes a copy of the file it leads to, with the mode given for the link.
#
# Version: cargo-generate-rpm 0.21.1 from crates.io, rpm 4.18.0 (Debian 12).
# Behaviour: assets are read through links, and nothing says so. A second name of a program (`sbin/mount.x -> ../bin/x`) doubles
#   the size of the package. Mode 777, which a link has and which cargo-deb with preserve-symlinks = true takes for one, makes a
#   program that everybody may overwrite. A package that needs a link has to make it in post_install_script, and to remove it in
#   post_uninstall_script where "$1" is 0.
# Output seen:
#   -rwxr-xr-x /usr/bin/tool
#   -rwxrwxrwx /usr/sbin/mount.tool
#
# Needs cargo, rpm and cargo-generate-rpm 0.21.1 (cargo install cargo-generate-rpm --locked --version 0.21.1).
set -euo pipefail
command -v rpm >/dev/null || { echo "no rpm" >&2; exit 1; }
case $(cargo generate-rpm --version 2>/dev/null) in *' 0.21.1') ;; *) echo "no cargo-generate-rpm 0.21.1" >&2; exit 1 ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir -p src tree/bin tree/sbin
echo 'fn main() {}' >src/main.rs
echo program >tree/bin/tool
ln -s ../bin/tool tree/sbin/mount.tool
cat >Cargo.toml <<'END'
[package]
name = "tool"
version = "1.0.0"
license = "MIT"
description = "links"

[package.metadata.generate-rpm]
assets = [
    { source = "tree/bin/tool", dest = "/usr/bin/tool", mode = "755" },
    { source = "tree/sbin/mount.tool", dest = "/usr/sbin/mount.tool", mode = "777" },
]
END
cargo generate-rpm --auto-req disabled --output tool.rpm
rpm -qplv tool.rpm 2>/dev/null | awk '{ print $1, $NF }' | tee seen
grep -q '^-rwxrwxrwx /usr/sbin/mount.tool$' seen
