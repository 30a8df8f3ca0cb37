//! Digests: the SHA-1 that addresses a block and the SHA-256 that decides what it is.
//!
//! SHA-1 is broken as a proof of contents, so it is only ever a name here: whatever is read under that name counts as
//! the block only if its SHA-256 fits too.

use std::fmt;
use std::str::FromStr;

use sha1::Digest as _;

/// Both values of `digit`, or `0xff` where the byte is no lower-case hexadecimal digit.
const NIBBLES: [u8; 256] = {
    let mut table = [0xff; 256];
    let mut i = 0;
    while i < 16 {
        table[b"0123456789abcdef"[i] as usize] = i as u8;
        i += 1;
    }
    table
};

/// Reads exactly `2 * N` lower-case hexadecimal digits; otherwise the offset of the first byte that is none, or the
/// length where the length is wrong.
pub(crate) fn from_hex<const N: usize>(text: &[u8]) -> Result<[u8; N], usize> {
    let mut out = [0; N];
    if text.len() != 2 * N {
        let wrong = text.iter().position(|&b| NIBBLES[b as usize] == 0xff);
        return Err(wrong.unwrap_or(text.len().min(2 * N)));
    }
    let mut bad = 0;
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let (high, low) = (NIBBLES[pair[0] as usize], NIBBLES[pair[1] as usize]);
        bad |= high | low;
        *byte = high << 4 | low;
    }
    if bad & 0xf0 != 0 {
        return Err(text.iter().position(|&b| NIBBLES[b as usize] == 0xff).unwrap_or(0));
    }
    Ok(out)
}

/// Appends the lower-case hexadecimal digits of `bytes`.
pub(crate) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[(byte >> 4) as usize]);
        out.push(DIGITS[(byte & 15) as usize]);
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

/// A text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {digits} lower-case hexadecimal digits")]
pub struct DigestError {
    digits: usize,
}
