//! `clusters`: a compressed EROFS. Blocks end where files end.
//!
//! A compressed cluster has whole pages, is filled up with zeros at its front, and begins with no zero itself: so a page
//! that begins with a zero begins a cluster. Clusters within a file are compressed to fill their pages; the last one of a
//! file has what is left, and so usually more zeros.

use super::block_buffer::BlockBuffer;
use super::cut::Cut;
use super::holes::Run;

/// A cluster that begins with so many zeros is the last one of its file.
const LAST_ZEROS: usize = 8;
/// The end of a file ends the block if that has at least this many bytes.
const END_FROM: usize = 28 << 10;
/// The end of any cluster ends the block if that has at least this many bytes.
const FULL_FROM: usize = 512 << 10;
/// The largest block, in bytes.
const MAX: usize = 1 << 20;

/// The data between two holes.
#[derive(Default)]
pub(super) struct Clusters {
    block: BlockBuffer,
    /// Whether the cluster that began last is the last one of its file.
    is_last: bool,
}

impl Run for Clusters {
    fn add(&mut self, offset: u64, page: &[u8], out: &mut dyn FnMut(Cut)) {
        let zeros = page.iter().take_while(|&&byte| byte == 0).count();
        if zeros > 0 && zeros < page.len() {
            let len = self.block.len();
            if len >= FULL_FROM || self.is_last && len >= END_FROM {
                self.block.cut_all(out);
            }
            self.is_last = zeros >= LAST_ZEROS;
        }
        self.block.add(offset, page);
        if self.block.len() >= MAX {
            self.block.cut_all(out);
        }
    }

    fn end(&mut self, out: &mut dyn FnMut(Cut)) {
        self.block.cut_all(out);
        self.is_last = false;
    }
}
