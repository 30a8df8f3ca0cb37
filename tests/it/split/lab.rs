//! Splits real images, as made by benches/images.sh.

use hfl::split::{Rule, Splitter};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::support::lab::{or_skip, real_image};

/// The number of blocks of an image, and the number of bytes in them.
fn count(rule: Rule, image: &Path) -> (usize, usize) {
    let mut file = File::open(image).expect("an image of the lab");
    let mut buffer = vec![0; 1 << 20];
    let (mut blocks, mut bytes) = (0, 0);
    let mut out = |cut: hfl::split::Cut| {
        blocks += 1;
        bytes += cut.bytes.len();
    };
    let nothing: &[u8] = &[];
    let mut splitter = Splitter::new(rule, &nothing);
    loop {
        match file.read(&mut buffer).expect("an image that can be read") {
            0 => break,
            len => splitter.data(&buffer[..len], &mut out),
        }
    }
    splitter.finish(&mut out).expect("nothing is read elsewhere");
    (blocks, bytes)
}

#[test]
fn pages_has_no_more_blocks_than_fixed() {
    for name in ["old.img", "new.img", "inplace.img"] {
        let Some(image) = or_skip(real_image("small", name)) else { return };
        let (fixed, fixed_bytes) = count(Rule::Fixed(Rule::FIXED_DEFAULT_BYTES), &image);
        let (pages, pages_bytes) = count(Rule::PAGES, &image);
        println!("{name}: pages {pages} blocks of {pages_bytes} bytes, fixed {fixed} of {fixed_bytes}");
        assert!(pages <= fixed && pages_bytes <= fixed_bytes && pages * 2 > fixed, "{name}");
    }
}
