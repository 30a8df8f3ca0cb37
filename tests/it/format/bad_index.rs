//! Indexes that must be refused, each with its message.

use hfl::format::block::BlockRow;
use hfl::format::block::digests;
use hfl::format::digest::Sha256;
use hfl::format::index::{Header, Index};
use hfl::split::Rule;

use crate::support::format_fixtures::{
    above_end, all_as_expected, edited_index, golden, golden_text, hole, part, refusal, with_end,
};

const FIRST: &str = "7c158e5bb4cc08b0183e8f0642a57609cf6046b2";
const SPLIT_FORM: &str = "line 6, column 7: a split rule is a name (a letter, then a-z 0-9 -, at most 32), a number \
     without leading zeros, and further names and numbers, with one space between them and at most 154 bytes";
const SECOND: &str = "20887250fa403c45e9c2c77405d8e16a5b37c5fc";

/// Each case is the golden index with one edit and a correct checksum.
#[test]
fn every_wrong_line_is_named() {
    let cases = [
        // Format line.
        ("HFL-INDEX 1", "HFL-INDEX 2", "line 1: format 2, this hfl reads 1; update hfl"),
        ("HFL-INDEX 1", "HFL-INDEX 10", "line 1: format 10, this hfl reads 1; update hfl"),
        ("HFL-INDEX 1", "HFL-INDEX 01", "line 1, column 11: the format's revision has leading zeros"),
        ("HFL-INDEX 1", "HFL-INDEX ", "line 1, column 11: expected the format's revision, a decimal number"),
        ("HFL-INDEX 1", "HFL-INDEX", "line 1, column 10: expected a space"),
        ("HFL-INDEX 1", "HFL-INDEX 1 ", "line 1, column 12: expected the end of the line"),
        ("HFL-INDEX 1", "HFL-HEAD 1", "line 1: expected HFL-INDEX"),
        ("HFL-INDEX 1", " HFL-INDEX 1", "line 1: expected HFL-INDEX"),
        ("HFL-INDEX 1\n", "HFL-INDEX 1\r\n", "line 1, column 12: carriage return"),
        // Header: values.
        ("image debian-ps3", "image ", "line 2, column 7: the name is empty"),
        ("image debian-ps3", "image", "line 2, column 6: expected a space"),
        ("image debian-ps3", "image  x", "line 2, column 7: ' ' is not allowed in a name (allowed: a-z 0-9 . _ -)"),
        ("image debian-ps3", "image x ", "line 2, column 7: ' ' is not allowed in a name (allowed: a-z 0-9 . _ -)"),
        ("image debian-ps3", "image ../e", "line 2, column 7: '/' is not allowed in a name (allowed: a-z 0-9 . _ -)"),
        ("image debian-ps3", "image -rf", "line 2, column 7: a name begins with a letter or a digit"),
        ("version 42", "version 0", "line 3, column 9: a version is a number from 1 to 4294967295"),
        ("version 42", "version 042", "line 3, column 9: a version is a number from 1 to 4294967295"),
        ("version 42", "version +42", "line 3, column 9: a version is a number from 1 to 4294967295"),
        ("version 42", "version 4294967296", "line 3, column 9: a version is a number from 1 to 4294967295"),
        ("T19:50:00Z", "T19:50:00", "line 4, column 9: expected a time like 2026-11-22T19:50:00Z"),
        ("T19:50:00Z", "T19:50:00.0Z", "line 4, column 9: expected a time like 2026-11-22T19:50:00Z"),
        ("2026-11-22", "2026-02-29", "line 4, column 9: expected a time like 2026-11-22T19:50:00Z"),
        ("size 1073791493", "size 0", "line 5, column 6: size is outside the limits, 1 to 1125899906842624"),
        (
            "size 1073791493",
            "size 1125899906842625",
            "line 5, column 6: size is outside the limits, 1 to 1125899906842624",
        ),
        ("size 1073791493", "size 01073791493", "line 5, column 6: size has leading zeros"),
        ("size 1073791493", "size 1073791493 ", "line 5, column 16: expected the end of the line"),
        ("size 1073791493", "size -1", "line 5, column 6: expected size, a decimal number"),
        (
            "parent e2",
            "parent E2",
            "line 7, column 8: expected a SHA-256 or `-`, 64 lower-case hexadecimal digits; found 64 characters",
        ),
        (
            "parent e2",
            "parent 2",
            "line 7, column 71: expected a SHA-256 or `-`, 64 lower-case hexadecimal digits; found 63 characters",
        ),
        ("64002b\n", "64002b x\n", "line 7, column 72: expected the end of the line"),
        ("64002b\n", "64002b \n", "line 7, column 72: expected the end of the line"),
        ("split pages 1", "split ", SPLIT_FORM),
        ("split pages 1", "split", "line 6, column 6: expected a space"),
        ("split pages 1", "split pages", SPLIT_FORM),
        ("split pages 1", "split pages 01", SPLIT_FORM),
        ("split pages 1", "split pages  1", SPLIT_FORM),
        ("split pages 1", "split pages 1 ", SPLIT_FORM),
        ("split pages 1", "split Pages 1", SPLIT_FORM),
        ("split pages 1", "split pages 1 x_y", SPLIT_FORM),
        ("split pages 1", "split pages 1 00", SPLIT_FORM),
        // Header: keys.
        ("size ", "colour ", "line 5, column 1: expected `size`, found `colour`"),
        ("size ", "Size ", "line 5, column 1: expected `size`, found `Size`"),
        (
            "image debian-ps3\nversion 42",
            "version 42\nimage debian-ps3",
            "line 2, column 1: expected `image`, found `version`",
        ),
        ("version 42", "version 42\nversion 42", "line 4, column 1: expected `created`, found `version`"),
        ("size ", "\u{1b}[2Jsize ", "line 5, column 1: expected `size`, found `\\u{1b}[2Jsize`"),
        // Counts.
        ("blocks 4", "blocks 5", "line 15: 5 blocks announced, 4 found"),
        ("blocks 4", "blocks 3", "line 14: 3 blocks announced, 4 found"),
        ("extents 11", "extents 12", "line 27: 12 extents announced, 11 found"),
        ("extents 11", "extents 9", "line 25: 9 extents announced, 11 found"),
        ("blocks 4\nextents 11\n--\n", "blocks 4\nextents 11\n", "line 10: expected `--` after the header"),
        ("blocks 4", "blocks 18446744073709551615", "line 8, column 8: blocks is outside the limits, 0 to 4194304"),
        ("blocks 4", "blocks 4194305", "line 8, column 8: blocks is outside the limits, 0 to 4194304"),
        ("blocks 4", "blocks 4194304", "line 8, column 15: 4194304 blocks announced, the file is too short for them"),
        ("extents 11", "extents 16777217", "line 9, column 9: extents is outside the limits, 0 to 16777216"),
        (
            "extents 11",
            "extents 16777216",
            "line 9, column 17: 16777216 extents announced, the file is too short for them",
        ),
        // Block rows.
        (
            "7c158e5b",
            "7C158e5b",
            "line 11, column 2: expected a SHA-1, 40 lower-case hexadecimal digits; found 40 characters",
        ),
        (
            "7c158e5b",
            "gc158e5b",
            "line 11, column 1: expected a SHA-1, 40 lower-case hexadecimal digits; found 40 characters",
        ),
        (
            "7c158e5b",
            "c158e5b",
            "line 11, column 40: expected a SHA-1, 40 lower-case hexadecimal digits; found 39 characters",
        ),
        (
            "7c158e5b",
            "77c158e5b",
            "line 11, column 41: expected a SHA-1, 40 lower-case hexadecimal digits; found 41 characters",
        ),
        (
            "2 3edacda0",
            "2 33edacda0",
            "line 11, column 106: expected a SHA-256, 64 lower-case hexadecimal digits; found 65 characters",
        ),
        (
            "2 3edacda0",
            "2  3edacda0",
            "line 11, column 42: expected a SHA-256, 64 lower-case hexadecimal digits; found 0 characters",
        ),
        (" 20480 15876", " 0 15876", "line 11, column 107: the block's bytes is outside the limits, 1 to 4194304"),
        (
            " 20480 15876",
            " 4194305 15876",
            "line 11, column 107: the block's bytes is outside the limits, 1 to 4194304",
        ),
        (" 20480 15876", " 20480 0", "line 11, column 113: the bytes of its file is outside the limits, 1 to 20564"),
        (
            " 20480 15876",
            " 20480 20565",
            "line 11, column 113: the bytes of its file is outside the limits, 1 to 20564",
        ),
        (" 20480 15876", " 20480 15876 ", "line 11, column 118: expected the end of the line"),
        (" 20480 15876", " 20480", "line 11, column 112: expected a space"),
        // Extent rows.
        ("\n512 -", "\n0 -", "line 21, column 1: the extent's bytes is outside the limits, 1 to 1125899906842624"),
        ("\n512 -", "\n512 - ", "line 21, column 5: expected a block or `-`, a decimal number"),
        ("\n512 -", "\n512", "line 21, column 4: expected a space"),
        ("4096 1 0", "4096 1 00", "line 20, column 8: the offset in the block has leading zeros"),
        ("4096 1 0", "4096 4194304 0", "line 20, column 6: a block or `-` is outside the limits, 0 to 4194303"),
        (
            "4096 1 0",
            "4096 1 4194304",
            "line 20, column 8: the offset in the block is outside the limits, 0 to 4194303",
        ),
    ];
    let said = |from, to| refusal(Index::parse(&edited_index(from, to)));
    all_as_expected(cases.map(|(from, to, expected)| ((from, to), said(from, to), expected.to_owned())));
}

/// The words of a split rule mean nothing to a reader; those of any rule are preserved.
#[test]
fn the_words_of_a_split_rule_are_not_judged() {
    for words in ["pages 2", "fixed 7", "gear 9", "parts 1 pages 1 bytes 1"] {
        let file = edited_index("split pages 1", &format!("split {words}"));
        let index = Index::parse(&file).expect(words);
        assert_eq!((index.header().split.to_string(), index.to_bytes()), (words.to_owned(), file));
    }
}

/// Well-formed lines that do not make a valid index.
#[test]
fn every_broken_rule_is_named() {
    let second_as_first = format!("block {FIRST} stands for two contents: a SHA-1 collision");
    let cases = [
        (
            "size 1073791493",
            "size 1073791494",
            "line 5: the extents add up to 1073791493 bytes, the image has 1073791494".into(),
        ),
        ("size 1073791493", "size 1073791492", "line 26: the extent does not fit the image's 1073791492 bytes".into()),
        (SECOND, FIRST, format!("line 12: {second_as_first}")),
        ("512 -", "512 -\n1 -", "line 27: 11 extents announced, 12 found".into()),
        (
            "4096 1 0\n512 -\n",
            "2048 1 0\n2048 1 2048\n",
            "line 21: continues the extent before it, the two must be one".into(),
        ),
        (
            "4096 1 0\n512 -\n",
            "4608 -\n4608 1 0\n",
            "line 20: continues the extent before it, the two must be one".into(),
        ),
        (
            "8192 0 0\n4096 1 4096\n12288 0 8192\n",
            "4096 1 4096\n12288 0 8192\n8192 0 0\n",
            "line 16: block 1 is named before block 0".into(),
        ),
        ("5 3 0", "5 4 0", "line 26: there is no block 4, there are 4".into()),
        ("5 3 0", "5 3 1", "line 26: block 3 has 5 bytes, the extent goes beyond them".into()),
        ("5 3 0", "5 2 0", "line 14: no extent names block a0f4ea7d91495df92bbac2e2149dfb850fe81396".into()),
        ("12288 0 8192", "12288 0 8191", "line 11: no extent uses byte 20479 of the block".into()),
        (
            "12288 0 8192\n1073741824 -\n4096 1 0\n",
            "12287 0 8193\n1073741825 -\n4096 1 0\n",
            "line 11: no extent uses byte 8192 of the block".into(),
        ),
    ];
    let said = |from, to| refusal(Index::parse(&edited_index(from, to)));
    all_as_expected(cases.map(|(from, to, expected)| ((from, to), said(from, to), expected.to_owned())));
}

#[test]
fn a_row_that_stands_twice_is_refused() {
    let text = golden_text("sample.idx");
    let row = text.lines().nth(10).expect("a row");
    let twice = edited_index(&format!("{row}\n"), &format!("{row}\n{row}\n"));
    let twice = with_end(String::from_utf8_lossy(above_end(&twice)).replace("blocks 4", "blocks 5"));
    assert_eq!(refusal(Index::parse(&twice)), format!("line 12: block {FIRST} is listed twice"));
}

#[test]
fn files_that_are_no_index_are_named_as_what_they_are() {
    let file = golden("sample.idx");
    let crlf = golden_text("sample.idx").replace('\n', "\r\n");
    let cases: [(&[u8], &str); 12] = [
        (b"", "empty, expected HFL-INDEX"),
        (b"\n", "line 1: expected HFL-INDEX"),
        (b"HFL-INDEX 1", "line 1: no line feed at its end"),
        (b"HFL-INDEX 1\n", "line 2: the file ends here, too early"),
        (b"<!DOCTYPE html>\n<html>", "line 1: looks like HTML (captive portal or 404 page?)"),
        (b"\n\n  <html>", "line 1: looks like HTML (captive portal or 404 page?)"),
        (b"\xef\xbb\xbf<html>", "line 1: looks like HTML (captive portal or 404 page?)"),
        (b"\xef\xbb\xbfHFL-INDEX 1\n", "line 1: expected HFL-INDEX"),
        (crlf.as_bytes(), "line 1, column 12: carriage return"),
        (&file[..file.len() - 1], "line 27: no line feed at its end"),
        (&file[..above_end(&file).len()], "line 27: the file ends here, too early"),
        (b"HFL-INDEX 1\nimage \xff\n", "line 2, column 7: not UTF-8"),
    ];
    for (file, expected) in cases {
        assert_eq!(refusal(Index::parse(file)), expected, "{:?}", String::from_utf8_lossy(file));
    }
}

#[test]
fn the_end_line_is_checked() {
    let file = golden_text("sample.idx");
    let wrong = |from: &str, to: &str| refusal(Index::parse(file.replace(from, to).as_bytes()));
    assert_eq!(wrong("end cd22", "end cd23"), "line 27: checksum mismatch: the file is damaged");
    assert_eq!(wrong("5 3 0", "4 3 0"), "line 27: checksum mismatch: the file is damaged");
    assert_eq!(wrong("end cd22", "End cd22"), "line 27: 11 extents announced, 12 found");
    assert_eq!(wrong("0abc9899\n", "0abc9899 \n"), "line 27, column 69: expected the end of the line");
    assert_eq!(wrong("0abc9899\n", "0abc9899\n\n"), "line 28: something follows the `end` line");
    assert_eq!(wrong("0abc9899\n", "0abc9899\r\n"), "line 27, column 69: carriage return");
}

/// Two real blocks with the same SHA-1: the beginnings of the two published PDF files, followed by equal
/// bytes.
#[test]
fn a_real_collision_is_refused() {
    let block = |name: &str| [golden(name), vec![7; 3776]].concat();
    let (one, two) = (block("shattered-1.bin"), block("shattered-2.bin"));
    let row = |bytes: &[u8]| {
        let (id, sha256) = digests(bytes);
        BlockRow { id, sha256, bytes: 4096, zlib_bytes: 400 }
    };
    let rows = vec![row(&one), row(&two)];
    assert_eq!(rows[0].id, rows[1].id);
    assert_ne!(rows[0].sha256, rows[1].sha256);
    let why = format!("block {} stands for two contents: a SHA-1 collision", rows[0].id);
    let header = Header { size: 8192, ..Index::parse(&golden("sample.idx")).expect("golden").header().clone() };
    assert_eq!(refusal(Index::new(header, rows, vec![part(0, 0, 4096), part(1, 0, 4096)])), why);
}

#[test]
fn parts_that_could_not_be_read_again_are_refused_when_an_index_is_made() {
    let golden = Index::parse(&golden("sample.idx")).expect("golden");
    let row = BlockRow { bytes: 4, zlib_bytes: 12, ..golden.blocks()[0] };
    let make = |size, split, row, extents| {
        refusal(Index::new(Header { size, split, ..golden.header().clone() }, vec![row], extents))
    };
    let whole = || vec![part(0, 0, 4)];
    let pages = || Rule::PAGES.into();
    assert_eq!(make(0, pages(), row, whole()), "size is outside the limits, 1 to 1125899906842624");
    let long = BlockRow { bytes: (4 << 20) + 1, ..row };
    assert_eq!(make(4, pages(), long, whole()), "a block has 1 to 4194304 bytes");
    assert_eq!(make(4, pages(), BlockRow { bytes: 0, ..row }, whole()), "a block has 1 to 4194304 bytes");
    assert_eq!(make(4, pages(), BlockRow { zlib_bytes: 0, ..row }, whole()), "0 bytes of zlib cannot be right");
    assert_eq!(make(4, pages(), BlockRow { zlib_bytes: 69, ..row }, whole()), "69 bytes of zlib cannot be right");
    let fit = "the extent does not fit the image's 4 bytes";
    assert_eq!(make(4, pages(), row, vec![hole(0), part(0, 0, 4)]), fit);
    assert_eq!(make(4, pages(), row, vec![part(0, 0, 4), hole(u64::MAX)]), fit);
    assert_eq!(
        make(1 << 50, pages(), row, vec![part(0, u32::MAX, 1 << 50)]),
        "block 0 has 4 bytes, the extent goes beyond them"
    );
    let two = BlockRow { sha256: Sha256::of(b"other"), ..row };
    let why = format!("block {} stands for two contents: a SHA-1 collision", row.id);
    assert_eq!(refusal(Index::new(golden.header().clone(), vec![row, two], whole())), why);
}
