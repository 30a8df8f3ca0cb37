//! The files of an ext4, which `content 2` cuts in the order of their paths.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;

use hfl::Error;
use hfl::split::{Cut, Lookup, PageSize, Rule, Span, Splitter, looks_elsewhere};
use xxhash_rust::xxh3::xxh3_64;

use super::image::Random;
use super::{check_cuts, cuts, cuts_in_pieces, model, spans_of, upload};

/// A file: its path, and its pages by the seeds of their contents; 0 is a page of zeros.
type File<'a> = (&'a str, Vec<u64>);

/// An ext4 of one group.
struct Ext4 {
    image: Vec<u8>,
    /// The pages of each file, in the order of their paths.
    files: Vec<Vec<usize>>,
}

struct Builder<'a> {
    size: usize,
    image: Vec<u8>,
    random: &'a mut Random,
    free: Vec<usize>,
    inodes: usize,
}

const INODES: usize = 512;
const INODE_BYTES: usize = 256;
const EXTENTS_PER_NODE: usize = 4;

impl Builder<'_> {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.image[at..][..bytes.len()].copy_from_slice(bytes);
    }

    fn table(&self) -> usize {
        3 * self.size
    }

    /// Takes pages: runs of up to 40 in a row, as a fragmented file system gives them.
    fn take(&mut self, count: usize) -> Vec<usize> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let at = self.random.below(self.free.len() as u64) as usize;
            let run = (count - taken.len()).min(40).min(self.free.len() - at);
            taken.extend(self.free.drain(at..at + run));
        }
        taken
    }

    /// An inode whose contents lie on these pages.
    fn inode(&mut self, number: usize, mode: u16, pages: &[usize]) {
        let runs: Vec<(usize, usize, usize)> =
            pages.iter().enumerate().fold(Vec::new(), |mut runs: Vec<(usize, usize, usize)>, (logical, &page)| {
                match runs.last_mut() {
                    Some((_, start, len)) if *start + *len == page => *len += 1,
                    _ => runs.push((logical, page, 1)),
                }
                runs
            });
        let leaf = |runs: &[(usize, usize, usize)]| -> Vec<u8> {
            runs.iter()
                .flat_map(|&(logical, start, len)| {
                    [
                        &(logical as u32).to_le_bytes()[..],
                        &(len as u16).to_le_bytes(),
                        &[0, 0],
                        &(start as u32).to_le_bytes(),
                    ]
                    .concat()
                })
                .collect()
        };
        let header = |entries: usize, depth: u16| {
            [&[0x0a, 0xf3][..], &(entries as u16).to_le_bytes(), &[4, 0], &depth.to_le_bytes(), &[0; 4]].concat()
        };
        let tree = if runs.len() <= EXTENTS_PER_NODE {
            [header(runs.len(), 0), leaf(&runs)].concat()
        } else {
            // One node below, which is a page by itself.
            let node = self.take(1)[0];
            let bytes = [header(runs.len(), 0), leaf(&runs)].concat();
            self.put(node * self.size, &bytes);
            [header(1, 1), vec![0; 4], (node as u32).to_le_bytes().to_vec(), vec![0; 4]].concat()
        };
        let at = self.table() + (number - 1) * INODE_BYTES;
        self.put(at, &mode.to_le_bytes());
        self.put(at + 4, &((pages.len() * self.size) as u32).to_le_bytes());
        self.put(at + 32, &0x8_0000_u32.to_le_bytes());
        self.put(at + 40, &tree);
        self.put(at + 128, &[32, 0]);
    }

    fn directory(&mut self, number: usize, mut names: Vec<(String, usize)>) {
        let page = self.take(1)[0];
        // In the order of their hashes, as if by chance.
        names.sort_by_key(|(name, _)| xxh3_64(name.as_bytes()));
        let mut bytes = [&(number as u32).to_le_bytes()[..], &[12, 0, 1, 2], b".\0\0\0"].concat();
        bytes.extend([&2_u32.to_le_bytes()[..], &[12, 0, 2, 2], b"..\0\0"].concat());
        for (name, inode) in names {
            let length = (8 + name.len()).next_multiple_of(4);
            bytes.extend((inode as u32).to_le_bytes());
            bytes.extend([length as u8, 0, name.len() as u8, 1]);
            bytes.extend(name.as_bytes());
            bytes.resize(bytes.len() + length - 8 - name.len(), 0);
        }
        let rest = (self.size - bytes.len()) as u16;
        bytes.extend([&[0; 4][..], &rest.to_le_bytes(), &[0, 0]].concat());
        self.put(page * self.size, &bytes);
        self.inode(number, 0x41ed, &[page]);
    }
}

/// Builds a file system in which everything lies where `seed` says. Directories have one level.
fn ext4(page: PageSize, files: &[File], seed: u64) -> Ext4 {
    let (size, mut random) = (page.bytes() as usize, Random(seed));
    let pages = 5 << 20 >> size.trailing_zeros();
    let first = 3 + INODES * INODE_BYTES / size;
    let image = vec![0; pages * size];
    let mut b = Builder { size, image, random: &mut random, free: (first..pages).collect(), inodes: 11 };
    let mut found: BTreeMap<Vec<&str>, Vec<usize>> = BTreeMap::new();
    let mut directories: BTreeMap<&str, Vec<(String, usize)>> = BTreeMap::from([("", Vec::new())]);
    let mut order: Vec<&File> = files.iter().collect();
    order.sort_by_key(|(path, _)| xxh3_64(path.as_bytes()) ^ seed);
    for (path, contents) in order {
        let pages = b.take(contents.len());
        for (&page, &seed) in pages.iter().zip(contents) {
            if seed != 0 {
                let bytes = Random(seed).bytes(size);
                b.put(page * size, &bytes);
            }
        }
        let number = b.inodes;
        b.inodes += 1;
        b.inode(number, 0x81a4, &pages);
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        directories.entry(directory).or_default().push((name.to_owned(), number));
        found.insert(path.split('/').collect(), pages);
    }
    let mut root = directories.remove("").expect("the root");
    for (name, names) in directories {
        let number = b.inodes;
        b.inodes += 1;
        b.directory(number, names);
        root.push((name.to_owned(), number));
    }
    b.directory(2, root);
    let word = |value: usize| (value as u32).to_le_bytes();
    let first = usize::from(size == 1024);
    let superblock = [
        (0, word(INODES)),
        (4, word(pages)),
        (20, word(first)),
        (24, word(size.trailing_zeros() as usize - 10)),
        (32, word(8 * size)),
        (40, word(INODES)),
        (76, word(1)),
        (88, word(INODE_BYTES)),
        (96, word(0x42)),
    ];
    superblock.iter().for_each(|(at, bytes)| b.put(1024 + at, bytes));
    b.put(1080, &[0x53, 0xef]);
    b.put((first + 1) * size + 8, &word(3));
    Ext4 { image: b.image, files: found.into_values().collect() }
}

/// The rule in its plainest form, for files that are known.
fn spans(page: PageSize, ext4: &Ext4) -> Vec<Vec<Span>> {
    let size = page.bytes() as usize;
    let is_zero = |&page: &usize| ext4.image[page * size..][..size].iter().all(|&byte| byte == 0);
    let mut blocks = vec![Vec::new()];
    for file in &ext4.files {
        let bytes = |block: &[usize]| block.len() * size;
        if bytes(file) >= 80 << 10 && bytes(&blocks[blocks.len() - 1]) >= 16 << 10 {
            blocks.push(Vec::new());
        }
        let holes = model::holes(&file.iter().map(is_zero).collect::<Vec<_>>(), (32 << 10) / size);
        for (&page, _) in file.iter().zip(holes).filter(|(_, is_hole)| !is_hole) {
            let block = blocks.last_mut().expect("one at least");
            block.push(page);
            if bytes(block) == 1 << 20 {
                let hash = |&&at: &&usize| xxh3_64(&ext4.image[block[at] * size..][..size]);
                let window: Vec<usize> = ((768 << 10) / size..block.len()).filter(|&at| !is_zero(&block[at])).collect();
                let last = *window.iter().min_by_key(hash).expect("a page that is not zero");
                let rest = block.split_off(last + 1);
                blocks.push(rest);
            }
        }
        if bytes(&blocks[blocks.len() - 1]) >= 256 << 10 {
            blocks.push(Vec::new());
        }
    }
    blocks.retain(|block| !block.iter().all(is_zero));
    let mut spans: Vec<Vec<Span>> =
        blocks.iter().map(|block| model::spans_of_pages(size, &ext4.image, block)).collect();
    spans.extend(spans_of_rest(page, ext4));
    spans.sort_by_key(|spans| spans[0].offset);
    spans
}

/// What is left, cut as if the pages of files were not there.
fn spans_of_rest(page: PageSize, ext4: &Ext4) -> Vec<Vec<Span>> {
    let size = page.bytes() as usize;
    let is_of_file = |page: &usize| ext4.files.iter().any(|file| file.contains(page));
    let rest: Vec<usize> = (0..ext4.image.len().div_ceil(size)).filter(|page| !is_of_file(page)).collect();
    let bytes = |&page: &usize| &ext4.image[page * size..ext4.image.len().min((page + 1) * size)];
    let alone: Vec<u8> = rest.iter().flat_map(bytes).copied().collect();
    let pages = |span: &Span| span.offset as usize / size..(span.offset + span.len).div_ceil(size as u64) as usize;
    let of_block = |block: &Vec<Span>| block.iter().flat_map(pages).map(|place| rest[place]).collect::<Vec<_>>();
    let blocks = model::spans(Rule::Pages(page), &alone);
    blocks.iter().map(|block| model::spans_of_pages(size, &ext4.image, &of_block(block))).collect()
}

/// A tree with files of all sizes, holes in some, and names whose order is not that of whole paths.
fn tree(page: PageSize, version: u64) -> Vec<File<'static>> {
    let kib = |kib: usize| (kib << 10).div_ceil(page.bytes() as usize);
    let contents = |seed: u64, pages: usize| (1..=pages as u64).map(|at| seed * 10_000 + at).collect::<Vec<_>>();
    let mut files = vec![
        ("etc/hosts", contents(1, 1)),
        ("etc/fstab", contents(version, 1)),
        ("etc-old", contents(2, kib(12))),
        ("usr/large", contents(3, kib(1500))),
        ("usr/own", contents(4, kib(80))),
        ("usr/small", contents(5, kib(79))),
        ("usr/empty", Vec::new()),
        ("usr/zeros", vec![0; kib(300)]),
        ("var/log", contents(6, kib(400))),
        ("vmlinuz", contents(version, kib(300))),
    ];
    let page_kib = page.bytes() as usize >> 10;
    let (_, large) = files.iter_mut().find(|(path, _)| *path == "usr/large").expect("it is there");
    for (index, seed) in large.iter_mut().enumerate() {
        // A hole of 32 KiB, one that is a page smaller, and zeros at the end.
        let at = index * page_kib;
        if (64..96).contains(&at) || (128..160 - page_kib).contains(&at) || at >= 1490 {
            *seed = 0;
        }
    }
    (0..40).for_each(|n| {
        files.push((Box::leak(format!("usr/f{n}").into_boxed_str()), contents(100 + n, 1 + n as usize % 5)))
    });
    files
}

/// As `check_cuts`, for blocks whose spans are in the order of a file and not of the image.
fn check(image: &[u8], found: &[Cut]) {
    let sorted = |cut: &Cut| {
        let mut pieces: Vec<(Span, Vec<u8>)> = Vec::new();
        let mut at = 0;
        for span in &cut.spans {
            pieces.push((*span, cut.bytes[at..at + span.len as usize].to_vec()));
            at += span.len as usize;
        }
        assert!(cut.spans.windows(2).all(|two| two[0].offset + two[0].len != two[1].offset), "not merged");
        pieces.sort_by_key(|(span, _)| span.offset);
        let mut spans: Vec<Span> = Vec::new();
        for (span, _) in &pieces {
            match spans.last_mut() {
                Some(last) if last.offset + last.len == span.offset => last.len += span.len,
                _ => spans.push(*span),
            }
        }
        Cut { bytes: pieces.into_iter().flat_map(|(_, bytes)| bytes).collect(), spans }
    };
    check_cuts(image, &found.iter().map(sorted).collect::<Vec<_>>());
}

#[test]
fn files_follow_the_model_wherever_they_lie() {
    for page in PageSize::ALL {
        for seed in 1..6 {
            let mut ext4 = ext4(page, &tree(page, 7), seed);
            // A file system with something behind it.
            ext4.image.extend(Random(seed).bytes(5000));
            let found = cuts(Rule::Content, &ext4.image);
            check(&ext4.image, &found);
            assert_eq!(spans_of(&found), spans(page, &ext4), "{page:?}, {seed}");
            for (lengths, holes) in [([511, 70_000], true), ([4096, 1 << 20], false)] {
                assert!(cuts_in_pieces(Rule::Content, &ext4.image, &lengths, holes) == found, "{page:?}, {seed}");
            }
        }
    }
}

/// With bigalloc and blocks of 1 KiB, the number at 20 is 0, and the tables are where they always are.
#[test]
fn tables_begin_behind_the_superblock() {
    let page = PageSize::OneKib;
    let mut ext4 = ext4(page, &tree(page, 7), 1);
    ext4.image[1044..1048].fill(0);
    assert_eq!(spans_of(&cuts(Rule::Content, &ext4.image)), spans(page, &ext4));
}

#[test]
fn files_that_move_are_shared() {
    for page in PageSize::ALL {
        let (old, new) = (ext4(page, &tree(page, 7), 1), ext4(page, &tree(page, 8), 2));
        let (files, pages) =
            (upload(Rule::Content, &old.image, &new.image), upload(Rule::Content1, &old.image, &new.image));
        // New are the 300 KiB of vmlinuz, the block with fstab, and the tables.
        assert!(files < 700 << 10 && pages > 1800 << 10, "{page:?}: {files}, by pages {pages}");
    }
}

/// Tables that lie change what is shared, and nothing else.
#[test]
fn damaged_tables_cost_no_byte_and_no_panic() {
    let mut random = Random(3);
    for page in PageSize::ALL {
        let whole = ext4(page, &tree(page, 7), 1);
        let size = page.bytes() as usize;
        let tables = 3 + INODES * INODE_BYTES / size;
        let used: Vec<usize> = (1024..tables * size).filter(|&at| whole.image[at] != 0).collect();
        for _ in 0..60 {
            let mut image = whole.image.clone();
            for _ in 0..=random.below(6) {
                let at = used[random.below(used.len() as u64) as usize];
                image[at] = match random.below(3) {
                    0 => 0xff,
                    1 => random.next() as u8,
                    // Small numbers name other tables.
                    _ => random.below(8) as u8,
                };
            }
            image.truncate(image.len() - random.below(3) as usize * random.below(1 << 20) as usize);
            let found = cuts(Rule::Content, &image);
            check(&image, &found);
            assert!(cuts_in_pieces(Rule::Content, &image, &[4095, 300_000], true) == found, "{page:?}");
        }
    }
}

/// An image that knows its holes, and counts what is read of it.
struct Sparse<'a>(&'a [u8], Cell<u64>);

impl Lookup for Sparse<'_> {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        self.1.set(self.1.get() + out.len() as u64);
        self.0.read(offset, out)
    }

    fn hole(&self, offset: u64, _len: u64) -> u64 {
        let data = self.0[offset as usize..].iter().position(|&byte| byte != 0);
        data.map_or(self.size() - offset, |data| data as u64)
    }
}

#[test]
fn holes_in_files_are_not_read() {
    for page in PageSize::ALL {
        let zeros = vec![0; 3 << 20 >> page.bytes().trailing_zeros()];
        let ext4 = ext4(page, &[("zeros", zeros), ("some", vec![7; 40])], 1);
        let image = Sparse(&ext4.image, Cell::new(0));
        let mut splitter = Splitter::new(Rule::Content, &image);
        let mut found = Vec::new();
        splitter.data(&ext4.image, &mut |cut| found.push(cut));
        splitter.finish(&mut |cut| found.push(cut)).expect("an image in memory");
        assert!(found == cuts(Rule::Content, &ext4.image), "{page:?}");
        assert!(image.1.get() < 1 << 20, "{page:?}: {} bytes were read", image.1.get());
    }
}

/// An image that cannot be read at any offset.
struct Stream;

impl Lookup for Stream {
    fn size(&self) -> u64 {
        u64::MAX
    }

    fn read(&self, _offset: u64, _out: &mut [u8]) -> Result<(), Error> {
        Err(Error::io(Path::new("a pipe"), &std::io::ErrorKind::Unsupported.into()))
    }
}

/// What is not told to be read elsewhere is not: an ISO 9660 in which an ext4 looks like a squashfs.
#[test]
fn an_image_is_read_elsewhere_only_where_its_start_tells() {
    let size = 4096;
    let mut ext4 = ext4(PageSize::FourKib, &tree(PageSize::FourKib, 7), 1).image;
    let told = |image: &[u8]| {
        looks_elsewhere(Rule::Content, &mut |at, out: &mut [u8]| {
            let part = image.get(at as usize..).and_then(|rest| rest.get(..out.len()));
            part.map(|part| out.copy_from_slice(part)).is_some()
        })
    };
    let cut = |image: &[u8]| {
        let mut splitter = Splitter::new(Rule::Content, &Stream);
        splitter.data(image, &mut |_| {});
        splitter.finish(&mut |_| {}).is_ok()
    };
    assert!(told(&ext4) && !cut(&ext4), "an ext4");
    ext4[..4].copy_from_slice(b"hsqs");
    ext4[28..30].copy_from_slice(&[4, 0]);
    let bytes = ext4.len() as u64;
    ext4[40..48].copy_from_slice(&bytes.to_le_bytes());
    let mut iso = Random(5).bytes(20 * size);
    iso[..2048].fill(1);
    iso[32769..32774].copy_from_slice(b"CD001");
    iso.extend(ext4);
    assert!(!told(&iso) && cut(&iso), "an ISO 9660");
    check(&iso, &cuts(Rule::Content, &iso));
}

/// An image whose cuts are frozen.
pub fn frozen(page: PageSize) -> Vec<u8> {
    ext4(page, &tree(page, 7), 2026).image
}
