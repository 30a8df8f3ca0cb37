//! Digests: the SHA-1 that addresses a block and the SHA-256 that verifies it.
//!
//! SHA-1 collisions are practical, so it is only a name here: bytes read under that name are accepted as the block only
//! if their SHA-256 matches.

use std::fmt;
use std::str::FromStr;

use sha1::Digest as _;

/// Bytes converted to or from digits at once: the length of a SHA-256.
const STEP: usize = 32;

/// The value of a lower-case hexadecimal digit; `0xff` for any other byte. Uses no table or branch, so that whole
/// digests are parsed with vector instructions: an index has a hundred digits per row.
fn nibble(byte: u8) -> u8 {
    let (digit, letter) = (byte.wrapping_sub(b'0'), byte.wrapping_sub(b'a'));
    let letter = if letter < 6 { letter + 10 } else { 0xff };
    if digit < 10 { digit } else { letter }
}

/// Parses exactly `2 * N` lower-case hexadecimal digits. Otherwise returns the offset of the first byte that is not a
/// digit; if all are digits but the length is wrong, the length, at most `2 * N`.
pub(crate) fn from_hex<const N: usize>(text: &[u8]) -> Result<[u8; N], usize> {
    const { assert!(N <= STEP) };
    let first_wrong = || text.iter().position(|&b| nibble(b) == 0xff);
    if text.len() != 2 * N {
        return Err(first_wrong().unwrap_or(text.len().min(2 * N)));
    }
    let mut nibbles = [0; 2 * STEP];
    let mut all = 0;
    for (value, &byte) in nibbles.iter_mut().zip(text) {
        *value = nibble(byte);
        all |= *value;
    }
    if all > 0xf {
        return Err(first_wrong().unwrap_or(0));
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(nibbles.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Ok(out)
}

/// Appends the lower-case hexadecimal digits of `bytes`.
pub(crate) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for part in bytes.chunks(STEP) {
        let mut text = [0; 2 * STEP];
        for (pair, byte) in text.chunks_exact_mut(2).zip(part) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        out.extend_from_slice(&text[..2 * part.len()]);
    }
}

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $hasher:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// The digest of `bytes`.
            pub fn of(bytes: &[u8]) -> Self {
                Self(<$hasher>::digest(bytes).into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = Vec::with_capacity(2 * $bytes);
                push_hex(&mut text, &self.0);
                f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;
            fn from_str(text: &str) -> Result<Self, DigestError> {
                from_hex(text.as_bytes()).map(Self).map_err(|_| DigestError { digits: 2 * $bytes })
            }
        }
    };
}

digest!(
    /// The name of a block: the SHA-1 of its uncompressed bytes. An address, never a proof.
    BlockId, 20, sha1::Sha1
);
digest!(
    /// A SHA-256: what decides whether bytes are the ones that were meant.
    Sha256, 32, sha2::Sha256
);

/// The error for a text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {digits} lower-case hexadecimal digits")]
pub struct DigestError {
    digits: usize,
}
