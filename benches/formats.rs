//! Time to write, read and compare indexes of a million rows.
//!
//! The budget: reading two indexes of a million rows and comparing them takes less than a second. The
//! output is in seconds of processor time of this thread, so load from other processes does not distort
//! it.

use std::hint::black_box;

use hfl::format::block::BlockRow;
use hfl::format::difference::Difference;
use hfl::format::digest::{BlockId, Sha256};
use hfl::format::index::{Extent, ExtentSource, Header, Index};
use hfl::format::name::Version;
use hfl::format::time::Timestamp;
use hfl::split::Rule;

/// Number of runs of each step; the fastest counts.
const ROUNDS: usize = 5;

fn main() {
    println!(
        "{:<44} {:>9} {:>8} {:>8} {:>8} {:>13}",
        "index", "bytes", "write s", "parse s", "delta s", "2 parse+delta"
    );
    compare("500,000 blocks, 500,000 extents", 500_000);
    compare("1,000,000 blocks, 1,000,000 extents", 1_000_000);
}

/// Two versions that differ in a tenth of their blocks.
fn compare(what: &str, blocks: u32) {
    let old = index(blocks, |i| i);
    let new = index(blocks, |i| if i % 10 == 3 { i + blocks } else { i });
    let file = new.to_bytes();
    let write = seconds(|| old.to_bytes().len());
    let parse = seconds(|| Index::parse(&file).map(|i| i.blocks().len()));
    let delta = seconds(|| Difference::between(&old, &new).map(&new, 512).len());
    let all = 2.0 * parse + delta;
    println!("{what:<44} {:>9} {write:>8.3} {parse:>8.3} {delta:>8.3} {all:>13.3}", file.len());
}

fn seconds<T>(mut step: impl FnMut() -> T) -> f64 {
    let round = |_| {
        let start = on_processor_ns();
        black_box(step());
        (on_processor_ns() - start) as f64 / 1e9
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

/// Processor time of this thread in nanoseconds: the first field of Linux's `schedstat`.
fn on_processor_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with CONFIG_SCHED_INFO");
    text.split(' ').next().and_then(|field| field.parse().ok()).expect("a number")
}

/// An index of `blocks` blocks as a splitter would make it: one extent for each, every ninth extent a
/// hole, and pairs that share a block in two pieces.
fn index(blocks: u32, content: impl Fn(u32) -> u32) -> Index {
    let bytes = |i: u32| 4096 * (16 + content(i) % 64);
    let rows: Vec<BlockRow> = (0..blocks).map(|i| row(content(i), bytes(i))).collect();
    let mut extents: Vec<Extent> = Vec::new();
    for i in 0..blocks {
        if i % 9 == 8 {
            extents.push(Extent { bytes: 1 << 20, from: ExtentSource::Hole });
        }
        extents.push(Extent { bytes: u64::from(bytes(i)), from: ExtentSource::Block { block: i, offset: 0 } });
        if i % 90 == 7 {
            extents.push(Extent { bytes: 4096, from: ExtentSource::Block { block: i / 2, offset: 4096 } });
        }
    }
    let header = Header {
        image: "bench".parse().expect("a name"),
        version: Version::FIRST,
        created: Timestamp::from_unix(1_795_377_000),
        size: extents.iter().map(|e| e.bytes).sum(),
        split: Rule::PAGES.into(),
        parent: None,
    };
    Index::new(header, rows, extents).expect("a valid index")
}

fn row(content: u32, bytes: u32) -> BlockRow {
    let sha256 = Sha256::of(&content.to_le_bytes());
    let mut id = [0; 20];
    id.copy_from_slice(&sha256.0[12..]);
    BlockRow { id: BlockId(id), sha256, bytes, zlib_bytes: bytes / 3 }
}
