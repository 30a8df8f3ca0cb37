//! Limits are checked before memory is allocated for what they limit.

use std::time::Instant;

use hfl::format::head::SignedHead;
use hfl::format::index::Index;

use crate::format::alloc::peak_bytes;
use crate::support::format_fixtures::{edited, edited_index, golden_text, refusal};

const MIB: usize = 1 << 20;

#[test]
fn huge_counts_allocate_nothing() {
    let counts =
        ["18446744073709551615", "18446744073709551616", "4194304", "4194305", "16777216", "99999999999999999999"];
    for count in counts {
        for (key, right) in [("blocks", "blocks 4"), ("extents", "extents 11")] {
            let file = edited_index(right, &format!("{key} {count}"));
            let (why, peak) = peak_bytes(|| refusal(Index::parse(&file)));
            assert!(why.contains("outside the limits") || why.contains("too short for them"), "{why}");
            assert!(peak < MIB, "{key} {count}: {peak} bytes");
        }
        let file = edited(&golden_text("signed.head"), "versions 3", &format!("versions {count}"));
        let (why, peak) = peak_bytes(|| refusal(SignedHead::parse(file.as_bytes())));
        assert!(why.contains("outside the limits"), "{why}");
        assert!(peak < MIB, "{count}: {peak} bytes");
    }
}

#[test]
fn a_line_without_end_is_read_up_to_its_limit() {
    let mut file = b"HFL-INDEX 1\n".to_vec();
    file.resize(64 << 20, b'x');
    let start = Instant::now();
    let (why, peak) = peak_bytes(|| refusal(Index::parse(&file)));
    println!("64 MiB without a line feed: refused after {} us, {peak} bytes held", start.elapsed().as_micros());
    assert_eq!(why, "line 2: longer than 160 bytes");
    assert!(peak < MIB);
    file.truncate(12 + 161);
    assert_eq!(refusal(Index::parse(&file)), "line 2: longer than 160 bytes");
    file.truncate(12 + 160);
    assert_eq!(refusal(Index::parse(&file)), "line 2: no line feed at its end");
    file.push(b'\n');
    assert!(refusal(Index::parse(&file)).starts_with("line 2, column 1: expected `image`, found `xxx"));
    let first = vec![b'H'; 64 << 20];
    assert_eq!(refusal(Index::parse(&first)), "line 1: expected HFL-INDEX");
    let first = [b"HFL-INDEX 1".as_slice(), &first].concat();
    assert_eq!(refusal(Index::parse(&first)), "line 1: longer than 160 bytes");
}

#[test]
fn messages_stay_short_whatever_the_file_holds() {
    let edits = [
        ("image debian-ps3", "image "),
        ("split pages 1", "split "),
        ("size 1073791493", ""),
        ("created 2026-11-22T19:50:00Z", "created "),
    ];
    for (from, to) in edits {
        let file = edited_index(from, &format!("{to}{}", "\u{1b}".repeat(120)));
        let why = refusal(Index::parse(&file));
        assert!(why.len() < 1200 && !why.chars().any(char::is_control), "{why:?}");
    }
}

/// The memory of an accepted index is proportional to its file.
#[test]
fn memory_follows_the_size_of_the_file() {
    let size: u64 = 200_000;
    let mut text = format!(
        "HFL-INDEX 1\nimage x\nversion 1\ncreated 2026-11-22T19:50:00Z\nsize {}\nsplit bytes 1\nparent -\nblocks 1\nextents {size}\n--\n",
        size * 3 / 2
    );
    text.push_str(&format!("{} {} 2 10\n--\n", "0".repeat(40), "0".repeat(64)));
    (0..size / 2).for_each(|_| text.push_str("2 0 0\n1 -\n"));
    let file = crate::support::format_fixtures::with_end(text);
    let (index, peak) = peak_bytes(|| Index::parse(&file).map(|i| i.extents().len()));
    println!("an index of {} bytes and {size} extents: {peak} bytes held while it is read", file.len());
    assert_eq!(index, Ok(size as usize));
    assert!(peak < 10 * file.len());
}
