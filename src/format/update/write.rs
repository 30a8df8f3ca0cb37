//! Writing an update.

use super::Update;
use crate::format::digest::{Sha256, push_hex};
use crate::format::index::push_block_row;
use crate::format::text::push_number;

/// Typical lengths of rows, in bytes.
const BASE_ROW_BYTES: usize = 122;
const DELTA_ROW_BYTES: usize = 124;

impl Update {
    /// The canonical text of this update.
    pub fn to_bytes(&self) -> Vec<u8> {
        let rows_bytes = self.bases.len() * BASE_ROW_BYTES + self.deltas.len() * DELTA_ROW_BYTES;
        let mut out = Vec::with_capacity(256 + rows_bytes);
        let (bases, deltas) = (self.bases.len(), self.deltas.len());
        let header = format!("HFL-UPDATE 1\nimage {}\nversion {}\nfrom {}\n", self.image, self.version, self.from);
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(format!("bases {bases}\ndeltas {deltas}\n--\n").as_bytes());
        self.bases.iter().for_each(|row| push_block_row(&mut out, row));
        out.extend_from_slice(b"--\n");
        for row in &self.deltas {
            push_hex(&mut out, &row.id.0);
            out.push(b' ');
            push_number(&mut out, row.bytes.into());
            out.push(b' ');
            push_hex(&mut out, &row.sha256.0);
            for base in row.bases.iter() {
                out.push(b' ');
                push_number(&mut out, base.into());
            }
            out.push(b'\n');
        }
        let digest = Sha256::of(&out);
        out.extend_from_slice(format!("end {digest}\n").as_bytes());
        out
    }
}
