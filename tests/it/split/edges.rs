//! The limits in the rules, on images built such that one page or byte more makes a difference.

use super::image::{Kind, Random, page, pages};
use super::{cuts, model};
use hfl::split::Rule;
use xxhash_rust::xxh3::xxh3_64;

const PAGE: usize = 4096;

/// Lengths of the blocks. Each block begins where the previous one ends.
fn lens(rule: Rule, image: &[u8]) -> Vec<usize> {
    let cuts = cuts(rule, image);
    let spans: Vec<_> = cuts.iter().map(|cut| cut.spans.clone()).collect();
    assert_eq!(spans, model::spans(rule, image));
    cuts.iter().map(|cut| cut.bytes.len()).collect()
}

#[test]
fn pages_window_begins_with_the_193rd() {
    let mut random = Random(1);
    let mut many: Vec<Vec<u8>> = (0..600).map(|_| page(Kind::Plain, &mut random)).collect();
    many.sort_by_key(|page| xxh3_64(page));
    let least = many.remove(0);
    for (at, chosen) in [(191, false), (192, true), (255, true), (256, false)] {
        let mut image = many[..300].to_vec();
        image.insert(at, least.clone());
        assert_eq!(lens(Rule::PAGES, &image.concat())[0] == (at + 1) * PAGE, chosen, "page {at}");
    }
}

#[test]
fn pages_big_file_may_begin_with_zeros() {
    let runs = |plain| [(Kind::Tail, 4), (Kind::Plain, plain), (Kind::Zero, 7), (Kind::Tail, 1), (Kind::Plain, 9)];
    assert_eq!(lens(Rule::PAGES, &pages(&runs(17), 0, 2)), [4 * PAGE, 34 * PAGE], "the 24th page is a zero one");
    assert_eq!(lens(Rule::PAGES, &pages(&runs(16), 0, 2)), [37 * PAGE], "the 24th page is a tail");
}

#[test]
fn pages_zeros_fill_a_block_but_do_not_end_it() {
    let runs = [(Kind::Plain, 250), (Kind::Zero, 7), (Kind::Plain, 50)];
    let lens = lens(Rule::PAGES, &pages(&runs, 0, 3));
    assert!(lens[0] > 192 * PAGE && lens[0] <= 250 * PAGE, "{lens:?}");
}

#[test]
fn pages_hole_goes_on_behind_a_directory() {
    let runs =
        |zeros| [(Kind::Plain, 1), (Kind::Zero, 4), (Kind::DirectoryStart, 1), (Kind::Zero, zeros), (Kind::Plain, 1)];
    assert_eq!(super::cuts(Rule::PAGES, &pages(&runs(4), 0, 4)).len(), 3);
    assert_eq!(super::cuts(Rule::PAGES, &pages(&runs(3), 0, 4)).len(), 2);
}

/// 64 bytes whose hash is in a range.
fn ending(range: std::ops::Range<u64>) -> Vec<u8> {
    let table: Vec<u64> = (0..=255u8).map(|byte| xxh3_64(&[byte])).collect();
    let mut random = Random(5);
    let bytes: Vec<u8> = (0..1 << 17).flat_map(|_| random.next().to_le_bytes()).collect();
    let mut hash = 0u64;
    let hit = bytes.iter().enumerate().position(|(index, &byte)| {
        hash = (hash << 1).wrapping_add(table[usize::from(byte)]);
        index >= 64 && range.contains(&hash)
    });
    let end = hit.expect("a place with such a hash") + 1;
    bytes[end - 64..end].to_vec()
}

/// The length of the first block of an image: `before` bytes of filler, `ending`, then filler.
fn first_len(ending: &[u8], before: usize) -> usize {
    let mut image = vec![b'x'; before];
    image.extend_from_slice(ending);
    image.resize(3 << 20, b'x');
    lens(Rule::Bytes, &image)[0]
}

#[test]
fn bytes_end_at_their_first_and_last_chance() {
    let (strict, loose) = (ending(0..1 << 47), ending(1 << 47..1 << 48));
    for (ending, from) in [(strict, 80 << 10), (loose, 160 << 10)] {
        assert_eq!(first_len(&ending, from - 64), from);
        assert_eq!(first_len(&ending, from - 65), 1 << 20, "one byte too early");
        assert_eq!(first_len(&ending, (1 << 20) - 65), (1 << 20) - 1);
        assert_eq!(first_len(&ending, (1 << 20) - 63), 1 << 20, "one byte too late");
    }
}
