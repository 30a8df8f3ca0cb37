//! The cost of splitting: time on one core, and bytes to upload when one image follows another.
//!
//!     cargo bench --bench split -- speed IMAGE          decisions alone and whole splitters, and a plain copy
//!     cargo bench --bench split -- cost RULE OLD NEW    blocks of NEW, and zlib bytes of those not in OLD
//!     cargo bench --bench split -- floor OLD.tar NEW.tar    zlib bytes of the files whose contents OLD lacks
//!
//! RULE is a value of --split. zlib means libdeflate level 6. Any other arguments measure nothing and
//! succeed, so that a plain `cargo bench` passes.

use hfl::split::{Choice, Cut, Lookup, Rule, Splitter, count_page_borders};
use libdeflater::{CompressionLvl, Compressor};
use rayon::prelude::*;
use rustix::fs::{SeekFrom, seek};
use std::collections::HashSet;
use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;
use xxhash_rust::xxh3::xxh3_128;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Bytes per read, as in the publisher.
const PIECE: usize = 1 << 20;
const RUNS: usize = 5;

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["speed", image] => speed(image),
        ["cost", rule, old, new] => cost(rule, old, new),
        ["floor", old, new] => floor(old, new),
        _ => {
            println!("nothing measured; say speed IMAGE, cost RULE OLD NEW or floor OLD.tar NEW.tar");
            Ok(())
        }
    }
}

fn speed(image: &str) -> Outcome {
    let image = std::fs::read(image)?;
    let pages = image.chunks_exact(4096);
    let used: usize = pages.filter(|page| page.iter().any(|&byte| byte != 0)).count() * 4096;
    println!(
        "{} MB, of which {} are not zero; MB/s of the whole, and of what is not zero:",
        image.len() / MB,
        used / MB
    );
    let copy = best(|| copy(&image));
    let row = |name: &str, seconds: f64| {
        let [whole, part] = [image.len(), used].map(|bytes| bytes as f64 / MB as f64 / seconds);
        println!("{name:28} {whole:8.0} {part:8.0}   {:5.2} of a copy's time", seconds / copy);
    };
    row("copy, 1 MiB at a time", copy);
    row("pages, decisions alone", best(|| count_page_borders(&image)));
    for rule in [Rule::Content, Rule::PAGES, Rule::Fixed(Rule::FIXED_DEFAULT_BYTES), Rule::Bytes] {
        row(&format!("{rule}, with its blocks"), best(|| split(rule, &image)));
    }
    Ok(())
}

const MB: usize = 1_000_000;

/// The fastest of several runs, in seconds.
fn best(mut work: impl FnMut() -> usize) -> f64 {
    let run = |_| {
        let start = Instant::now();
        black_box(work());
        start.elapsed().as_secs_f64()
    };
    (0..RUNS).map(run).fold(f64::INFINITY, f64::min)
}

fn copy(image: &[u8]) -> usize {
    let mut target = vec![0; PIECE];
    image.chunks(PIECE).for_each(|piece| black_box(&mut target)[..piece.len()].copy_from_slice(piece));
    target.len()
}

fn split(rule: Rule, image: &[u8]) -> usize {
    let mut blocks = 0;
    let mut out = |cut: Cut| blocks += usize::from(!black_box(cut).bytes.is_empty());
    let mut splitter = Splitter::new(rule, &image);
    image.chunks(PIECE).for_each(|piece| splitter.data(piece, &mut out));
    splitter.finish(&mut out).expect("an image in memory");
    blocks
}

fn cost(rule: &str, old: &str, new: &str) -> Outcome {
    let Choice(rule) = rule.parse()?;
    let mut known = HashSet::new();
    each_cut(rule, old, &mut |cut| {
        known.insert(xxh3_128(&cut.bytes));
    })?;
    let (mut blocks, mut bytes, mut fresh) = (0, 0, Vec::new());
    each_cut(rule, new, &mut |cut| {
        blocks += 1;
        bytes += cut.bytes.len();
        if known.insert(xxh3_128(&cut.bytes)) {
            fresh.push(cut.bytes);
        }
    })?;
    println!("blocks {blocks} mean {} new {} upload {}", bytes / blocks.max(1), fresh.len(), zlib_bytes(&fresh));
    Ok(())
}

/// Splits a file; its holes are not read.
fn each_cut(rule: Rule, image: &str, out: &mut dyn FnMut(Cut)) -> Outcome {
    let mut file = File::open(image)?;
    let size = file.metadata()?.len();
    let mut buffer = vec![0; PIECE];
    let anywhere = Anywhere(file.try_clone()?, size);
    let mut splitter = Splitter::new(rule, &anywhere);
    let mut at = 0;
    while at < size {
        let data = seek(&file, SeekFrom::Data(at)).unwrap_or(size);
        splitter.hole(data - at, out);
        at = data;
        let end = seek(&file, SeekFrom::Hole(at)).unwrap_or(size);
        seek(&file, SeekFrom::Start(at))?;
        while at < end {
            let len = PIECE.min((end - at) as usize);
            file.read_exact(&mut buffer[..len])?;
            splitter.data(&buffer[..len], out);
            at += len as u64;
        }
    }
    Ok(splitter.finish(out)?)
}

/// An image for what is read out of its order; its size in bytes.
struct Anywhere(File, u64);

impl Lookup for Anywhere {
    fn size(&self) -> u64 {
        self.1
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), hfl::Error> {
        self.0.read_exact_at(out, offset).map_err(|e| hfl::Error::io(Path::new("the image"), &e))
    }
}

fn zlib_bytes(blocks: &[Vec<u8>]) -> usize {
    let level = CompressionLvl::new(6).expect("a level of libdeflate");
    let compress = |compressor: &mut Compressor, block: &Vec<u8>| {
        let mut packed = vec![0; compressor.zlib_compress_bound(block.len())];
        compressor.zlib_compress(block, &mut packed).expect("room enough")
    };
    blocks.par_iter().map_init(|| Compressor::new(level), compress).sum()
}

fn floor(old: &str, new: &str) -> Outcome {
    let mut known = HashSet::new();
    each_file(old, &mut |contents| {
        known.insert(xxh3_128(&contents));
    })?;
    let mut fresh = Vec::new();
    each_file(new, &mut |contents| {
        if known.insert(xxh3_128(&contents)) {
            fresh.push(contents);
        }
    })?;
    println!("files {} floor {}", fresh.len(), zlib_bytes(&fresh));
    Ok(())
}

/// The contents of every regular file in a tar archive. Supports only the parts of the format that
/// mmdebstrap uses: names are irrelevant here, and no file needs a size from an extended header.
fn each_file(tar: &str, out: &mut dyn FnMut(Vec<u8>)) -> Outcome {
    let mut tar = std::io::BufReader::new(File::open(tar)?);
    let mut header = [0; 512];
    loop {
        tar.read_exact(&mut header)?;
        if header == [0; 512] {
            return Ok(());
        }
        let octal = std::str::from_utf8(&header[124..135])?;
        let len = usize::from_str_radix(octal.trim_matches(['\0', ' ']), 8)?;
        let mut contents = vec![0; len.next_multiple_of(512)];
        tar.read_exact(&mut contents)?;
        contents.truncate(len);
        if matches!(header[156], b'0' | 0) && len > 0 {
            out(contents);
        }
    }
}
