//! Writing an index.

use std::io::Write as _;

use super::{ExtentSource, Index};
use crate::format::block::BlockRow;
use crate::format::digest::{Sha256, push_hex};
use crate::format::text::push_number;

impl Index {
    /// The canonical text of this index.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512 + self.blocks.len() * 122 + self.extents.len() * 20);
        self.write_header(&mut out);
        out.extend_from_slice(b"--\n");
        self.blocks.iter().for_each(|row| push_block_row(&mut out, row));
        out.extend_from_slice(b"--\n");
        for extent in &self.extents {
            push_number(&mut out, extent.bytes);
            out.push(b' ');
            match extent.from {
                ExtentSource::Hole => out.push(b'-'),
                ExtentSource::Block { block, offset } => {
                    push_number(&mut out, block.into());
                    out.push(b' ');
                    push_number(&mut out, offset.into());
                }
            }
            out.push(b'\n');
        }
        let digest = Sha256::of(&out);
        push_text(&mut out, format_args!("end {digest}\n"));
        out
    }

    fn write_header(&self, out: &mut Vec<u8>) {
        let h = &self.header;
        let parent = h.parent.map_or_else(|| "-".to_owned(), |p| p.to_string());
        push_text(out, format_args!("{} 1\nimage {}\nversion {}\n", super::MAGIC, h.image, h.version));
        push_text(out, format_args!("created {}\nsize {}\n", h.created, h.size));
        push_text(out, format_args!("{} {}\nparent {parent}\n", super::split::KEY, h.split));
        push_text(out, format_args!("blocks {}\nextents {}\n", self.blocks.len(), self.extents.len()));
    }
}

/// Appends the row of a block.
pub(crate) fn push_block_row(out: &mut Vec<u8>, row: &BlockRow) {
    push_hex(out, &row.id.0);
    out.push(b' ');
    push_hex(out, &row.sha256.0);
    out.push(b' ');
    push_number(out, row.bytes.into());
    out.push(b' ');
    push_number(out, row.zlib_bytes.into());
    out.push(b'\n');
}

/// Formats into a vector, which cannot fail.
fn push_text(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok());
}
