//! Writing a profile.

use super::Profile;
use crate::format::digest::{Sha256, push_hex};
use crate::format::text::push_number;

/// Typical length of a row, in bytes.
const ROW_BYTES: usize = 64;

impl Profile {
    /// The canonical text of this profile.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.reads.len() * ROW_BYTES);
        let (image, version) = (&self.image, self.version);
        let header = format!("HFL-PROFILE 1\nimage {image}\nversion {version}\nblocks {}\n--\n", self.reads.len());
        out.extend_from_slice(header.as_bytes());
        for read in &self.reads {
            push_hex(&mut out, &read.id.0);
            out.push(b' ');
            push_number(&mut out, read.ms);
            out.push(b' ');
            push_number(&mut out, read.offset);
            out.push(b'\n');
        }
        let digest = Sha256::of(&out);
        out.extend_from_slice(format!("end {digest}\n").as_bytes());
        out
    }
}
