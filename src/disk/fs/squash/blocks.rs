//! Blocks of a squashfs: data blocks, and metadata blocks of 8 KiB that form continuous streams of inodes, directories
//! and tables.
//!
//! All work counts towards a limit, repeated scans included.

use std::collections::HashMap;
use std::rc::Rc;

use super::codec::Codec;
use super::damaged;
use crate::disk::Window;
use crate::error::Error;

/// Size of a metadata block in bytes, decompressed.
const METADATA_BYTES: usize = 8192;
/// Maximum metadata blocks in the cache: 8 MiB.
const KEPT_MAX: usize = 1024;
/// Maximum bytes decompressed or scanned.
const WORK_MAX_BYTES: u64 = 4 << 30;
/// Flag in the length of a metadata block: stored uncompressed.
const PLAIN_METADATA: u16 = 0x8000;
/// Flag in the length of a data block: stored uncompressed.
const PLAIN_DATA: u32 = 1 << 24;

/// A metadata block, and the offset of the next one.
type Metadata = (Rc<[u8]>, u64);

/// Reads blocks.
pub struct Blocks {
    window: Window,
    codec: Codec,
    kept: HashMap<u64, Metadata>,
    /// The last fragment block (the ends of several files), by offset.
    fragment: Option<(u64, Rc<[u8]>)>,
    left: u64,
}

impl Blocks {
    /// Reads blocks of this compression.
    pub fn new(window: Window, codec: Codec) -> Self {
        Self { window, codec, kept: HashMap::new(), fragment: None, left: WORK_MAX_BYTES }
    }

    fn work(&mut self, bytes: usize) -> Result<(), Error> {
        self.left = self.left.checked_sub(bytes as u64).ok_or_else(|| damaged("reading it has no end"))?;
        Ok(())
    }

    fn bytes_at<const N: usize>(&mut self, at: u64) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.window.read_at(at, &mut bytes).map_err(|e| Error::local(e.to_string()))?;
        Ok(bytes)
    }

    /// The 64-bit number at a byte offset of the image.
    ///
    /// # Errors
    /// The offset is beyond the end.
    pub fn number_at(&mut self, at: u64) -> Result<u64, Error> {
        self.bytes_at(at).map(u64::from_le_bytes)
    }

    fn block(&mut self, at: u64, stored: usize, is_plain: bool, max_bytes: usize) -> Result<Vec<u8>, Error> {
        if stored == 0 || stored > max_bytes {
            return Err(damaged(format_args!("a block of {stored} bytes at byte {at}")));
        }
        let mut packed = vec![0; stored];
        self.window.read_at(at, &mut packed).map_err(|e| Error::local(e.to_string()))?;
        // A failed block costs as much.
        self.work(max_bytes)?;
        match is_plain {
            true => Ok(packed),
            false => {
                let unpacked = self.codec.unpack(&packed, max_bytes);
                unpacked.map_err(|e| damaged(format_args!("the block at byte {at}: {e}")))
            }
        }
    }

    fn metadata(&mut self, at: u64) -> Result<Metadata, Error> {
        if let Some(kept) = self.kept.get(&at) {
            return Ok(kept.clone());
        }
        let length = u16::from_le_bytes(self.bytes_at(at)?);
        let (stored, is_plain) = (length & !PLAIN_METADATA, length & PLAIN_METADATA != 0);
        let block = self.block(at + 2, stored.into(), is_plain, METADATA_BYTES)?;
        if self.kept.len() == KEPT_MAX {
            self.kept.clear();
        }
        let metadata = (block.into(), at + 2 + u64::from(stored));
        self.kept.insert(at, metadata.clone());
        Ok(metadata)
    }

    /// Reads a block of a file of exactly `bytes` bytes. `length` describes how it is stored; zero stored bytes are a
    /// hole.
    ///
    /// # Errors
    /// A block that cannot be read, or has another length.
    pub fn data(&mut self, at: u64, length: u32, bytes: usize, max_bytes: usize) -> Result<Vec<u8>, Error> {
        if stored_bytes(length) == 0 {
            self.work(bytes)?;
            return Ok(vec![0; bytes]);
        }
        let block = self.block(at, stored_bytes(length), length & PLAIN_DATA != 0, max_bytes)?;
        match block.len() == bytes {
            true => Ok(block),
            false => Err(damaged(format_args!("the block at byte {at} has {} bytes, not {bytes}", block.len()))),
        }
    }

    /// Reads a fragment block, which holds the ends of several files.
    ///
    /// # Errors
    /// A block that cannot be read.
    pub fn fragment(&mut self, at: u64, length: u32, max_bytes: usize) -> Result<Rc<[u8]>, Error> {
        if let Some((_, block)) = self.fragment.as_ref().filter(|(kept, _)| *kept == at) {
            return Ok(Rc::clone(block));
        }
        let block: Rc<[u8]> = self.block(at, stored_bytes(length), length & PLAIN_DATA != 0, max_bytes)?.into();
        self.fragment = Some((at, Rc::clone(&block)));
        Ok(block)
    }
}

/// Stored size of a data block in bytes.
pub fn stored_bytes(length: u32) -> usize {
    (length & (PLAIN_DATA - 1)) as usize
}

/// A read position in the metadata.
pub struct Text<'a> {
    blocks: &'a mut Blocks,
    block: Rc<[u8]>,
    begin: u64,
    next: u64,
    at: usize,
}

impl<'a> Text<'a> {
    /// Starts at byte `offset` of the block at byte `begin` of the image.
    ///
    /// # Errors
    /// No such block.
    pub fn open(blocks: &'a mut Blocks, begin: u64, offset: usize) -> Result<Self, Error> {
        let (block, next) = blocks.metadata(begin)?;
        match offset <= block.len() {
            true => Ok(Self { blocks, block, begin, next, at: offset }),
            false => Err(damaged(format_args!("the metadata at byte {begin} has no byte {offset}"))),
        }
    }

    /// The position, in the form that [`Self::open`] takes.
    pub fn place(&self) -> (u64, usize) {
        (self.begin, self.at)
    }

    /// Fills `out`, across as many blocks as needed.
    ///
    /// # Errors
    /// A block that cannot be read.
    pub fn read(&mut self, out: &mut [u8]) -> Result<(), Error> {
        self.blocks.work(out.len())?;
        let mut done = 0;
        while done < out.len() {
            if self.at == self.block.len() {
                (self.begin, self.at) = (self.next, 0);
                (self.block, self.next) = self.blocks.metadata(self.next)?;
                if self.block.is_empty() {
                    return Err(damaged(format_args!("the metadata at byte {} is empty", self.begin)));
                }
            }
            let count = (out.len() - done).min(self.block.len() - self.at);
            out[done..done + count].copy_from_slice(&self.block[self.at..self.at + count]);
            (done, self.at) = (done + count, self.at + count);
        }
        Ok(())
    }

    /// Reads a 16-bit number.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn u16(&mut self) -> Result<u16, Error> {
        let mut bytes = [0; 2];
        self.read(&mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    /// Reads a 32-bit number.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn u32(&mut self) -> Result<u32, Error> {
        let mut bytes = [0; 4];
        self.read(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads a 64-bit number.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn u64(&mut self) -> Result<u64, Error> {
        let mut bytes = [0; 8];
        self.read(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Skips `N` bytes.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn skip<const N: usize>(&mut self) -> Result<(), Error> {
        self.read(&mut [0; N])
    }
}
