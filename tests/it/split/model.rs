//! The rules in their plainest form: arrays of whole images, no state between calls, no regard for speed.
//!
//! Written from the text of the specification, not from the splitters.

use hfl::split::{Rule, Span};
use xxhash_rust::xxh3::xxh3_64;

const PAGE: usize = 4096;

/// The spans of each block, ordered by their first bytes.
pub fn spans(rule: Rule, image: &[u8]) -> Vec<Vec<Span>> {
    let mut blocks = match rule {
        Rule::Fixed(size) => fixed(size as usize, image),
        Rule::Content | Rule::Content1 => unreachable!("disks.rs has a model of the stretches, files.rs of files"),
        Rule::Pages(size) => pages(size.bytes() as usize, image),
        Rule::Bytes => bytes(image),
    };
    blocks.sort_by_key(|spans| spans[0].offset);
    blocks
}

fn zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

fn span(start: usize, end: usize) -> Span {
    Span { offset: start as u64, len: (end - start) as u64 }
}

fn fixed(size: usize, image: &[u8]) -> Vec<Vec<Span>> {
    let starts = (0..image.len()).step_by(size).map(|start| (start, image.len().min(start + size)));
    starts.filter(|&(start, end)| !zero(&image[start..end])).map(|(start, end)| vec![span(start, end)]).collect()
}

/// The pages of an image, the last one padded with zeros.
fn padded(size: usize, image: &[u8]) -> Vec<Vec<u8>> {
    let pad = |page: &[u8]| {
        let mut page = page.to_vec();
        page.resize(size, 0);
        page
    };
    image.chunks(size).map(pad).collect()
}

/// Marks the elements in a run of at least `least` zero elements, or in a run of zero elements at the end of the list.
pub fn holes(zeros: &[bool], least: usize) -> Vec<bool> {
    let mut holes = vec![false; zeros.len()];
    let mut start = 0;
    while start < zeros.len() {
        let end = (start..zeros.len()).find(|&index| !zeros[index]).unwrap_or(zeros.len());
        if end - start >= least || end == zeros.len() {
            holes[start..end].fill(true);
        }
        start = end + 1;
    }
    holes
}

/// The ranges of a list between its holes.
fn stretches(holes: &[bool]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut start = 0;
    for end in 0..=holes.len() {
        if end == holes.len() || holes[end] {
            if start < end {
                found.push((start, end));
            }
            start = end + 1;
        }
    }
    found
}

fn is_directory(page: &[u8]) -> bool {
    page[4..12] == [0x0c, 0, 1, 2, 0x2e, 0, 0, 0]
        || page[page.len() - 12..page.len() - 4] == [0, 0, 0, 0, 0x0c, 0, 0, 0xde]
}

fn is_inodes(page: &[u8]) -> bool {
    let used = |record: &&[u8]| [1, 2, 4, 6, 8, 10, 12].contains(&(record[1] >> 4)) && record[128..130] == [32, 0];
    let (inodes, others): (Vec<&[u8]>, Vec<&[u8]>) = page.chunks(256).partition(used);
    let free = others.iter().filter(|record| zero(&record[..128])).count();
    let (records, others) = (page.len() / 256, page.len() / 2048);
    !inodes.is_empty() && inodes.len() + free >= records - others
}

fn is_extents(page: &[u8]) -> bool {
    page[..2] == [0x0a, 0xf3] && usize::from(page[4]) + 256 * usize::from(page[5]) == (page.len() - 12) / 12
}

/// `size` is that of a page; `n` of 4096 bytes are `n * scale` of these.
fn pages(size: usize, image: &[u8]) -> Vec<Vec<Span>> {
    let scale = 4096 / size;
    let pages = padded(size, image);
    let is_meta = |&index: &usize| {
        let page = &pages[index];
        !zero(page) && (is_directory(page) || is_inodes(page) || size < 4096 && is_extents(page))
    };
    let (meta, stream): (Vec<usize>, Vec<usize>) = (0..pages.len()).partition(is_meta);
    let zeros: Vec<bool> = stream.iter().map(|&index| zero(&pages[index])).collect();
    let mut blocks = meta_blocks(&pages, &meta, scale);
    for (start, end) in stretches(&holes(&zeros, 8 * scale)) {
        let borders = data_borders(&pages, &stream, start, end, scale);
        blocks.extend(borders.windows(2).map(|two| stream[two[0]..two[1]].to_vec()));
    }
    blocks.iter().map(|block| spans_of_pages(size, image, block)).collect()
}

pub fn spans_of_pages(size: usize, image: &[u8], pages: &[usize]) -> Vec<Span> {
    let runs = pages.chunk_by(|one, next| one + 1 == *next);
    runs.map(|run| span(run[0] * size, image.len().min((run[run.len() - 1] + 1) * size))).collect()
}

fn meta_blocks(pages: &[Vec<u8>], meta: &[usize], scale: usize) -> Vec<Vec<usize>> {
    let mut blocks = vec![Vec::new()];
    for &page in meta {
        let block = blocks.last_mut().expect("one at least");
        block.push(page);
        let ends = || xxh3_64(&pages[page]).is_multiple_of(32 * scale as u64);
        if block.len() == 128 * scale || block.len() >= 16 * scale && ends() {
            blocks.push(Vec::new());
        }
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}

/// All boundaries in a range of the stream, including its start and its end.
fn data_borders(pages: &[Vec<u8>], stream: &[usize], start: usize, end: usize, scale: usize) -> Vec<usize> {
    let page = |position: usize| &pages[stream[position]];
    let directory_before = |position: usize| {
        position > start && (stream[position - 1]..stream[position]).any(|index| is_directory(&pages[index]))
    };
    let mut borders = vec![start];
    let (mut s, mut lt, mut best) = (start, None, None::<(u64, usize)>);
    for i in start..end {
        if directory_before(i) && !zero(page(i - 1)) && i - s >= 20 * scale {
            borders.push(i);
            (s, lt, best) = (i, None, None);
        }
        if !zero(page(i)) && zero(&page(i)[page(i).len() - 32..]) {
            if i + 1 - s >= 72 * scale {
                borders.push(i + 1);
                (s, lt, best) = (i + 1, None, None);
                continue;
            }
            lt = Some(i);
        } else if let Some(tail) = lt.filter(|&tail| i - tail >= 24 * scale && tail + 1 - s >= 4 * scale) {
            borders.push(tail + 1);
            (s, lt, best) = (tail + 1, None, None);
        }
        let hash = xxh3_64(page(i));
        if i + 1 - s > 192 * scale && !zero(page(i)) && best.is_none_or(|(least, _)| hash < least) {
            best = Some((hash, i));
        }
        if i + 1 - s >= 256 * scale {
            let (_, last) = best.expect("a page that is not zero");
            borders.push(last + 1);
            (s, lt, best) = (last + 1, None, None);
        }
    }
    if s < end {
        borders.push(end);
    }
    borders
}

fn bytes(image: &[u8]) -> Vec<Vec<Span>> {
    let zeros: Vec<bool> = padded(PAGE, image).iter().map(|page| zero(page)).collect();
    let mut blocks = Vec::new();
    for (first, last) in stretches(&holes(&zeros, 8)) {
        let end = image.len().min(last * PAGE);
        let mut start = first * PAGE;
        while start < end {
            let len = bytes_len(&image[start..end]);
            blocks.push((start, start + len));
            start += len;
        }
    }
    blocks.retain(|&(start, end)| !zero(&image[start..end]));
    blocks.iter().map(|&(start, end)| vec![span(start, end)]).collect()
}

/// The length of the block that begins here and ends at the latest with these bytes.
fn bytes_len(bytes: &[u8]) -> usize {
    let table: Vec<u64> = (0..=255u8).map(|byte| xxh3_64(&[byte])).collect();
    let mut hash = 0u64;
    for (index, &byte) in bytes.iter().enumerate() {
        hash = hash.wrapping_mul(2).wrapping_add(table[usize::from(byte)]);
        let len = index + 1;
        let chosen = match len {
            0..81_920 => false,
            81_920..163_840 => hash < 1 << 47,
            _ => hash < 1 << 48,
        };
        if chosen || len == 1 << 20 {
            return len;
        }
    }
    bytes.len()
}
