//! An .xz file that is one stream of several blocks, as `xz -T0` writes it, decoded by several threads.
//!
//! The index at the end of the file says where the blocks are (The .xz File Format 1.2, section 4). Each is decoded as a
//! stream of its own, so that its check is verified as in any other file. As many are under way as the limit of memory
//! allows, each counted with a dictionary and all that it unpacks to. Whatever is unusual is left to the decoder
//! that reads from start to end, which says what is wrong with it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use lzma_rust2::{Action, XzReader, XzStream};

use super::CHUNK_BYTES;
use super::compression::XZ_MEMORY_KIB;

/// Size of the header and of the footer of a stream.
const HEADER_BYTES: usize = 12;
/// Largest header of a block.
const BLOCK_HEADER_MAX_BYTES: usize = 1 << 10;
/// Bounds the memory for the index: 24 bytes a block.
const BLOCKS_MAX: u64 = 1 << 20;
/// Largest index that is read: two sizes of up to 5 bytes for each block.
const INDEX_MAX_BYTES: u64 = 10 * BLOCKS_MAX;
/// Mean size of a block from which a thread is worth it.
const MEAN_MIN_BYTES: u64 = 256 << 10;
/// Bytes per read of the file.
const READ_BYTES: usize = 64 << 10;
/// What a thread has beside its block and what [`decoder_kib`] says: the buffers of the file and of the range decoder.
const BUFFERS_KIB: u32 = 128;

const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// The contents of such a file.
pub(super) struct XzBlocks {
    file: Arc<File>,
    header: [u8; HEADER_BYTES],
    blocks: Vec<Block>,
    /// Number of blocks whose decoding was begun.
    begun: usize,
    /// What is decoded, or waits to be read, in order: of each block its parts, then an empty one.
    running: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    /// The largest number of them.
    workers: usize,
    /// Limit of the memory of one decoder, in KiB.
    decoder_kib: u32,
    part: Cursor<Vec<u8>>,
    /// Bytes that were given out.
    given: u64,
}

/// A record of the index.
#[derive(Clone, Copy)]
struct Block {
    at: u64,
    /// Compressed size with its header and check, without padding.
    unpadded: u64,
    bytes: u64,
}

/// Opens `file` if it is a regular file of several blocks that can be decoded side by side within the limit of memory.
pub(super) fn open(file: &File) -> Option<XzBlocks> {
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0).ok()?;
    let blocks = index(file, &header)?;
    let largest =
        blocks.iter().map(|block| block.bytes).max().filter(|bytes| bytes >> 10 < u64::from(XZ_MEMORY_KIB))?;
    if blocks.iter().map(|block| block.bytes).sum::<u64>() / (blocks.len() as u64) < MEAN_MIN_BYTES {
        return None;
    }
    let largest_decoder =
        blocks.iter().try_fold(0, |largest, block| Some(decoder_kib(file, &header, block.at)?.max(largest)))?;
    let decoder_kib = largest_decoder.checked_add(BUFFERS_KIB)?;
    let fit = u64::from(XZ_MEMORY_KIB) / (u64::from(decoder_kib) + largest.div_ceil(1 << 10));
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(fit as usize);
    if workers < 2 {
        return None;
    }
    let (running, part) = (VecDeque::new(), Cursor::default());
    let file = Arc::new(file.try_clone().ok()?);
    Some(XzBlocks { file, header, blocks, begun: 0, running, workers, decoder_kib, part, given: 0 })
}

/// The blocks, if the file is one stream of several, and nothing else is in it.
fn index(file: &File, header: &[u8; HEADER_BYTES]) -> Option<Vec<Block>> {
    let mut footer = [0; HEADER_BYTES];
    // 0 for a device.
    let footer_at = file.metadata().ok()?.len().checked_sub(HEADER_BYTES as u64)?;
    file.read_exact_at(&mut footer, footer_at).ok()?;
    let is_footer = footer.ends_with(b"YZ") && CRC.checksum(&footer[4..10]).to_le_bytes() == footer[..4];
    if !is_footer || footer[8..10] != header[6..8] {
        return None;
    }
    let size = (u64::from(u32::from_le_bytes(*footer[4..].first_chunk()?)) + 1) * 4;
    let at = footer_at.checked_sub(size).filter(|_| size <= INDEX_MAX_BYTES)?;
    let mut index = vec![0; size as usize];
    file.read_exact_at(&mut index, at).ok()?;
    let (records, crc) = index.split_last_chunk()?;
    if CRC.checksum(records).to_le_bytes() != *crc { None } else { blocks(records, at) }
}

/// Parses an index, whose blocks must end exactly at `end`.
fn blocks(index: &[u8], end: u64) -> Option<Vec<Block>> {
    let mut rest = index.strip_prefix(&[0])?;
    let count = integer(&mut rest).filter(|count| (2..=BLOCKS_MAX).contains(count))?;
    let (mut at, mut blocks) = (HEADER_BYTES as u64, Vec::new());
    for _ in 0..count {
        let (unpadded, bytes) = (integer(&mut rest)?, integer(&mut rest)?);
        blocks.push(Block { at, unpadded, bytes });
        at = at.checked_add(unpadded.checked_next_multiple_of(4)?)?;
    }
    let is_padded = rest.len() < 4 && rest.iter().all(|&byte| byte == 0);
    (is_padded && at == end).then_some(blocks)
}

/// Takes a number off the start of `bytes`: 7 bits a byte, the lowest first, at most 63.
fn integer(bytes: &mut &[u8]) -> Option<u64> {
    let last = bytes.iter().take(9).position(|byte| byte & 0x80 == 0)?;
    let (number, rest) = bytes.split_at(last + 1);
    *bytes = rest;
    Some(number.iter().rev().fold(0, |sum, byte| sum << 7 | u64::from(byte & 0x7f)))
}

/// Memory for decoding the block at `at`, above all for its dictionary, in KiB.
fn decoder_kib(file: &File, header: &[u8; HEADER_BYTES], at: u64) -> Option<u32> {
    let mut start = [0; HEADER_BYTES + BLOCK_HEADER_MAX_BYTES];
    start[..HEADER_BYTES].copy_from_slice(header);
    let read = file.read_at(&mut start[HEADER_BYTES..], at).ok()?;
    let mut stream = XzStream::new_mem_limit(false, 0);
    // Without memory it ends after the block's header, with an error.
    let _ = stream.process(&start[..HEADER_BYTES + read], &mut [], Action::Run);
    stream.memory_usage()
}

impl XzBlocks {
    /// Begins to decode as many blocks as may be under way. A file that was only opened decodes one at a time: it may be
    /// long before it is read, and others may be read meanwhile.
    fn begin(&mut self) -> io::Result<()> {
        let most = if self.given < CHUNK_BYTES as u64 { 1 } else { self.workers };
        while self.running.len() < most && self.begun < self.blocks.len() {
            let block = self.blocks[self.begun];
            let (input, limit, (parts, running)) = (self.stream(block), self.decoder_kib, mpsc::channel());
            let thread = std::thread::Builder::new().name("hfl-xz".into());
            match thread.spawn(move || decode(input, block.bytes, limit, &parts)) {
                Err(e) if self.running.is_empty() => return Err(e),
                // Those that run do it too.
                Err(_) => break,
                Ok(_) => (self.running.push_back(running), self.begun += 1),
            };
        }
        Ok(())
    }

    /// A block as the only one of a stream.
    fn stream(&self, block: Block) -> impl Read + Send + use<> {
        let mut end = vec![0, 1];
        for mut number in [block.unpadded, block.bytes] {
            while number >= 0x80 {
                end.push(number as u8 | 0x80);
                number >>= 7;
            }
            end.push(number as u8);
        }
        end.resize(end.len().next_multiple_of(4), 0);
        end.extend(CRC.checksum(&end).to_le_bytes());
        let sizes = [&(end.len() as u32 / 4 - 1).to_le_bytes(), &self.header[6..8]].concat();
        end.extend([&CRC.checksum(&sizes).to_le_bytes(), &*sizes, b"YZ"].concat());
        let (file, at) = (Arc::clone(&self.file), block.at);
        let data = Range { file, at, end: at.saturating_add(block.unpadded.next_multiple_of(4)) };
        BufReader::with_capacity(READ_BYTES, Cursor::new(self.header).chain(data).chain(Cursor::new(end)))
    }
}

impl Read for XzBlocks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let bytes = self.part.read(out)?;
            self.given += bytes as u64;
            if bytes > 0 || out.is_empty() {
                return Ok(bytes);
            }
            self.begin()?;
            let Some(block) = self.running.front() else { return Ok(0) };
            let part = block.recv().map_err(|_| io::Error::other("a thread that decodes it ended early"))??;
            if part.is_empty() {
                self.running.pop_front();
            }
            self.part = Cursor::new(part);
        }
    }
}

/// Decodes a stream of `bytes` bytes, until an error, or until nobody takes its parts any more.
fn decode(input: impl Read, bytes: u64, limit_kib: u32, parts: &Sender<io::Result<Vec<u8>>>) {
    let mut stream = XzReader::new_mem_limit(input, false, limit_kib).take(bytes.saturating_add(1));
    let mut left = bytes;
    loop {
        let part = next_part(&mut stream, &mut left);
        let is_last = part.as_ref().map_or(true, Vec::is_empty);
        if parts.send(part).is_err() || is_last {
            return;
        }
    }
}

/// The next bytes of the `left` ones of a block, or none once it was decoded and verified.
fn next_part(stream: &mut impl Read, left: &mut u64) -> io::Result<Vec<u8>> {
    let mut part = Vec::with_capacity(CHUNK_BYTES.min(*left as usize));
    stream.take(CHUNK_BYTES as u64).read_to_end(&mut part)?;
    match left.checked_sub(part.len() as u64) {
        Some(rest) if rest == 0 || !part.is_empty() => *left = rest,
        _ => return Err(io::Error::other("a block has another size than the index says")),
    }
    Ok(part)
}

/// A range of a file.
struct Range {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Range {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = (self.end - self.at).min(out.len() as u64) as usize;
        let bytes = self.file.read_at(&mut out[..most], self.at)?;
        self.at += bytes as u64;
        Ok(bytes)
    }
}
