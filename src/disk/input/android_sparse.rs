//! Sparse images of Android, which `img2simg` makes and fastboot sends: what is in no chunk reads as zeros.
//!
//! The checksums are not compared: the tools write none, or a zero.

use std::io::{self, Read};

use android_sparse_image::{
    CHUNK_HEADER_BYTES_LEN, ChunkHeader, ChunkHeaderBytes, ChunkType, FILE_HEADER_BYTES_LEN, FileHeader,
    FileHeaderBytes, ParseError,
};

/// The bytes of the image, in order.
pub struct AndroidSparse<R> {
    input: R,
    block_bytes: u64,
    /// Blocks of the image, and chunks, that are still to come.
    blocks_left: u64,
    chunks_left: u32,
    chunk: Chunk,
    /// Bytes of the image that are left of the chunk.
    left: u64,
}

enum Chunk {
    /// They follow in the input.
    Raw,
    /// These four, again and again.
    Fill([u8; 4]),
}

impl<R: Read> AndroidSparse<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// It is damaged.
    pub fn new(mut input: R) -> io::Result<Self> {
        let mut bytes: FileHeaderBytes = [0; FILE_HEADER_BYTES_LEN];
        input.read_exact(&mut bytes)?;
        let header = FileHeader::from_bytes(&bytes).map_err(damaged)?;
        if header.block_size == 0 || !header.block_size.is_multiple_of(4) {
            return Err(io::Error::other("its block size is no multiple of 4"));
        }
        Ok(Self {
            input,
            block_bytes: header.block_size.into(),
            blocks_left: header.blocks.into(),
            chunks_left: header.chunks,
            chunk: Chunk::Raw,
            left: 0,
        })
    }

    /// Reads the header of the next chunk; false at the end of the image.
    fn next_chunk(&mut self) -> io::Result<bool> {
        if self.chunks_left == 0 {
            let missing = self.blocks_left > 0;
            return if missing { Err(io::Error::other("blocks are missing at its end")) } else { Ok(false) };
        }
        self.chunks_left -= 1;
        let mut bytes: ChunkHeaderBytes = [0; CHUNK_HEADER_BYTES_LEN];
        self.input.read_exact(&mut bytes)?;
        let header = ChunkHeader::from_bytes(&bytes).map_err(damaged)?;
        let blocks = u64::from(header.chunk_size);
        let fill = match header.chunk_type {
            ChunkType::Fill | ChunkType::Crc32 => {
                let mut word = [0; 4];
                self.input.read_exact(&mut word).map(|()| word)?
            }
            ChunkType::Raw | ChunkType::DontCare => [0; 4],
        };
        self.chunk = match header.chunk_type {
            ChunkType::Crc32 => return Ok(true),
            ChunkType::Raw => Chunk::Raw,
            ChunkType::Fill | ChunkType::DontCare => Chunk::Fill(fill),
        };
        let left = self.blocks_left.checked_sub(blocks);
        self.blocks_left = left.ok_or_else(|| io::Error::other("it has more blocks than its header says"))?;
        self.left = blocks * self.block_bytes;
        Ok(true)
    }
}

impl<R: Read> Read for AndroidSparse<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            if !self.next_chunk()? {
                return Ok(0);
            }
        }
        let wanted = self.left.min(out.len() as u64) as usize;
        let out = &mut out[..wanted];
        let read = match self.chunk {
            Chunk::Raw => match self.input.read(out)? {
                0 if wanted > 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => read,
            },
            Chunk::Fill(word) => {
                // Parts of a word are passed only where `out` is no multiple of it; the rest is aligned to the word.
                let phase = (self.block_bytes - self.left % self.block_bytes) as usize;
                out.iter_mut().enumerate().for_each(|(at, byte)| *byte = word[(phase + at) % 4]);
                wanted
            }
        };
        self.left -= read as u64;
        Ok(read)
    }
}

fn damaged(e: ParseError) -> io::Error {
    io::Error::other(e.to_string())
}
