//! What comes out of a splitter.

/// Where some bytes of a block come from: a run of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte of the run, counted from the start of the image.
    pub offset: u64,
    /// Length in bytes, at least 1.
    pub len: u64,
}

/// One block as it leaves the splitter: never empty, never all zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The block.
    pub bytes: Vec<u8>,
    /// Where its bytes stand in the image, in their order in the block, adjacent ones merged.
    pub spans: Vec<Span>,
}
