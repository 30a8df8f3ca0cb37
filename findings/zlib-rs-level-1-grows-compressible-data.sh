#!/usr/bin/env bash
# zlib-rs at level 1: data of high bytes that zlib shrinks by 14 % grows by 12 %; random data grows by 5 %.
#
# Version: crate zlib-rs 0.6.8 (also behind flate2 with the feature "zlib-rs").
# Behaviour: level 1 writes all data with the fixed Huffman codes of deflate, without ever falling back to a stored block or to
#   codes made for the data. There, the bytes 144 to 255 cost 9 bits each, the others 8. So random data grows by 5.5 %, and bytes
#   of which all are 144 or more by up to 12.5 %, even where their distribution would let them shrink. zlib at level 1, and
#   zlib-rs from level 2, grow incompressible data by less than 0.1 %. A buffer of the size that zlib's compressBound gives
#   (n + n/4096 + n/16384 + 13) is too small: compress_slice answers BufError. Who stores blocks compressed "at the fastest level"
#   must compare each with its plain size.
# Output seen (262144 bytes each; "high": random bytes from 144 to 255):
#   random, zlib-rs level 1, buffer of 262237 bytes: BufError
#   high, zlib-rs level 1, buffer of 262237 bytes: BufError
#   random: zlib level 1 262230, zlib-rs level 1 276516, level 2 262232
#   high: zlib level 1 224805, zlib-rs level 1 294843, level 2 223569
#
# Needs cargo with rustc 1.75 or newer, python3 (its zlib is the measure, and reads back what zlib-rs wrote).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir src
cat >Cargo.toml <<'END'
[package]
name = "growth"
version = "0.0.0"
edition = "2021"
[dependencies]
zlib-rs = "=0.6.8"
[workspace]
END
cat >src/main.rs <<'END'
use zlib_rs::{compress_slice, DeflateConfig, ReturnCode};

fn main() {
    let mut state = 1_u64;
    let mut random = Vec::new();
    while random.len() < 262_144 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        random.extend(state.to_le_bytes());
    }
    let high: Vec<u8> = random.iter().map(|byte| 144 + byte % 112).collect();
    for (name, data) in [("random", random), ("high", high)] {
        std::fs::write(name, &data).unwrap();
        for level in [1, 2] {
            let mut output = vec![0; 2 * data.len()];
            let (compressed, code) = compress_slice(&mut output, &data, DeflateConfig::new(level));
            assert_eq!(code, ReturnCode::Ok);
            std::fs::write(format!("{name}.{level}"), compressed).unwrap();
        }
        let mut output = vec![0; data.len() + data.len() / 4096 + data.len() / 16384 + 13];
        let (_, code) = compress_slice(&mut output, &data, DeflateConfig::new(1));
        println!("{name}, zlib-rs level 1, buffer of {} bytes: {code:?}", output.len());
        assert_eq!(code, ReturnCode::BufError);
    }
}
END
cargo fetch --quiet || { echo "this version of zlib-rs cannot be had" >&2; exit 1; }
cargo run --quiet --target-dir target
python3 - <<'END'
import zlib

for name, growth in ("random", 1.05), ("high", 1.12):
    data = open(name, "rb").read()
    first, second = (open(f"{name}.{level}", "rb").read() for level in (1, 2))
    assert zlib.decompress(first) == data and zlib.decompress(second) == data, "not what was compressed"
    assert len(zlib.compress(data, 1)) < 1.001 * len(data), "zlib grows it, too"
    assert len(second) < 1.001 * len(data), "level 2 grows it, too"
    assert len(first) > growth * len(data), "level 1 no longer grows it"
    print(f"{name}: zlib level 1 {len(zlib.compress(data, 1))}, zlib-rs level 1 {len(first)}, level 2 {len(second)}")
END
