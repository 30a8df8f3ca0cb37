//! The output of a splitter.

/// A run of the image that a block contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Offset in the image, in bytes.
    pub offset: u64,
    /// Length in bytes, at least 1.
    pub len: u64,
}

/// One block: never empty, never all zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Contents of the block.
    pub bytes: Vec<u8>,
    /// Positions of its bytes in the image, in block order, adjacent spans merged.
    pub spans: Vec<Span>,
}
