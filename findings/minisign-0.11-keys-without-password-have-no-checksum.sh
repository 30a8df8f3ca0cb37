#!/usr/bin/env bash
# minisign 0.11 -G -W: the secret key file ends in 32 zero bytes where the checksum of a key belongs.
#
# Version: minisign 0.11 (Debian package 0.11-1); crate minisign 0.10.0.
# Behaviour: a secret key is 158 bytes, and the last 32 are BLAKE2b-256 of the signature algorithm, the key number and the
#   key. With a password, minisign writes them. With -W it leaves them zero, and does not check them when it signs. The crate
#   minisign (of rsign2) checks them in keys without a password too and answers "Corrupted key"; keys that it makes itself
#   have the checksum. A program that takes keys of both must not require it where there is no password.
# Output seen:
#   minisign -G -W: 158 bytes, checksum 0000000000000000000000000000000000000000000000000000000000000000
#   minisign signs with it: yes
#   crate: Corrupted key
#   crate, key made by itself: checksum is there, key is taken
#
# Needs cargo with rustc 1.85 or newer, apt-get and dpkg of Debian 12 (amd64), libsodium23, python3.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"
apt-get -q download minisign=0.11-1 >/dev/null 2>&1
dpkg -x minisign_0.11-1_*.deb minisign
mkdir src
cat >Cargo.toml <<'END'
[package]
name = "taken"
version = "0.0.0"
edition = "2021"
[dependencies]
minisign = "=0.10.0"
[workspace]
END
cat >src/main.rs <<'END'
use minisign::{KeyPair, SecretKeyBox};

fn main() {
    let text = std::fs::read_to_string(std::env::args().nth(1).unwrap()).unwrap();
    match SecretKeyBox::from_string(&text).unwrap().into_unencrypted_secret_key() {
        Ok(_) => println!("crate: the key is taken"),
        Err(e) => println!("crate: {e}"),
    }
    let own = KeyPair::generate_unencrypted_keypair().unwrap().sk;
    let checksum = own.to_bytes()[126..].iter().any(|byte| *byte != 0);
    let taken = own.to_box(None).unwrap().into_unencrypted_secret_key().is_ok();
    let words = (if checksum { "is there" } else { "is not there" }, if taken { "is taken" } else { "is refused" });
    println!("crate, key made by itself: checksum {}, key {}", words.0, words.1);
}
END
minisign/usr/bin/minisign -G -W -p key.pub -s key.key >/dev/null
echo data >file
{
  python3 -c 'import base64
key = base64.b64decode(open("key.key").read().split("\n")[1])
print(f"minisign -G -W: {len(key)} bytes, checksum {key[126:].hex()}")'
  signs=no
  minisign/usr/bin/minisign -S -s key.key -m file >/dev/null 2>&1 && minisign/usr/bin/minisign -Vqm file -p key.pub >/dev/null && signs=yes
  echo "minisign signs with it: $signs"
  cargo run --quiet -- key.key
} | tee seen
diff seen - <<'END'
minisign -G -W: 158 bytes, checksum 0000000000000000000000000000000000000000000000000000000000000000
minisign signs with it: yes
crate: Corrupted key
crate, key made by itself: checksum is there, key is taken
END
