//! The format document is correct: the repository in it parses as described, and its limits equal the
//! program's.

use std::collections::HashMap;

use hfl::format::block::{BLOCK_MAX_BYTES, Block, zlib_max_bytes};
use hfl::format::digest::Sha256;
use hfl::format::head::{
    HEAD_MAX_BYTES, MIRRORS_MAX, NOTE_KEY_MAX_BYTES, NOTE_VALUE_MAX_BYTES, NOTES_MAX, SignedHead, Trust,
};
use hfl::format::index::{self, Index};
use hfl::format::layout::{Kind, PATH_MAX_BYTES, RepoPath};
use hfl::format::name::{LABEL_MAX_CHARS, NAME_MAX_BYTES, Name};
use hfl::format::profile;
use hfl::format::signature::{PublicKey, SIGNATURE_MAX_BYTES, Signature};
use hfl::format::url::URL_MAX_BYTES;

const DOCUMENT: &str = include_str!("../../../src/doc/format.md");

/// The fenced text after `heading`.
fn fenced(heading: &str) -> &'static str {
    let (_, after) = DOCUMENT.split_once(heading).unwrap_or_else(|| panic!("{heading} is not in the document"));
    let (_, after) = after.split_once("```text\n").expect("a fenced text");
    after.split_once("```\n").expect("its end").0
}

/// The files of the complete example repository, by path.
fn repository() -> HashMap<RepoPath, &'static str> {
    let headings = DOCUMENT.lines().filter_map(|line| line.strip_prefix("#### `")?.strip_suffix('`'));
    headings.map(|path| (path.parse().expect(path), fenced(&format!("#### `{path}`\n")))).collect()
}

fn key() -> PublicKey {
    fenced("## 10. A complete repository").trim().parse().expect("the key")
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).expect("hexadecimal")).collect()
}

#[test]
fn the_repository_reads_from_the_key_to_the_last_byte() {
    let files = repository();
    assert_eq!(files.len(), 5);
    let image: Name = files[&RepoPath::images()].trim_end().parse().expect("one name");
    let head = SignedHead::parse(files[&RepoPath::head(&image)].as_bytes()).expect("the head");
    let head = head.verify(&Trust::Key(key())).expect("signed by the key");
    let row = head.newest();
    let index_file = files[&row.index_path(&image)];
    assert_eq!((row.index_bytes, row.index_sha256), (index_file.len() as u64, Sha256::of(index_file.as_bytes())));
    let index = Index::parse(index_file.as_bytes()).expect("the index");
    assert_eq!(index.to_bytes(), index_file.as_bytes());
    assert_eq!((&index.header().image, index.header().version, index.size()), (&image, row.version, row.size));
    let [block] = index.blocks() else { panic!("one block") };
    let file = from_hex(files[&RepoPath::block(&block.id)]);
    assert_eq!((u64::from(block.zlib_bytes), row.new_bytes), (file.len() as u64, file.len() as u64));
    let bytes = Block::open(block, &file).expect("the block");
    assert_eq!(*bytes, *b"hfl: tiny image\n".repeat(256));
    assert_eq!((index.hole_bytes(), index.size()), (4096, 8192));
}

#[test]
fn the_signature_of_the_index_verifies_and_says_so() {
    let files = repository();
    let (path, file) = files.iter().find(|(path, _)| matches!(path.kind(), Kind::Index(..))).expect("an index");
    let signature: Signature = files[&path.signature()].parse().expect("a signature");
    let comment = format!("hfl index tiny 1 {}", Sha256::of(file.as_bytes()));
    assert_eq!(key().verify(file.as_bytes(), &signature, &comment), Ok(()));
    assert_eq!(signature.text().lines().nth(2), Some(format!("trusted comment: {comment}").as_str()));
}

#[test]
fn the_heads_write_what_the_document_shows() {
    let files = repository();
    let signed = files[&RepoPath::head(&"tiny".parse().unwrap())];
    let unsigned = fenced("#### The same head, unsigned\n");
    for text in [signed, unsigned] {
        assert_eq!(SignedHead::parse(text.as_bytes()).expect("a head").to_bytes(), text.as_bytes());
    }
    let body = |text: &'static str| text.match_indices("--\n").nth(1).map(|(at, _)| &text[..at]);
    assert_eq!(body(signed), body(unsigned));
    assert_eq!(unsigned.strip_prefix(body(unsigned).unwrap()), Some("--\nunsigned\n"));
}

#[test]
fn the_limits_are_the_programs() {
    let said = |what: &str| {
        let row = DOCUMENT.lines().find_map(|line| line.strip_prefix(&format!("| {what} | ")));
        row.unwrap_or_else(|| panic!("no limit `{what}`")).trim_end_matches(" |").parse::<u64>().expect(what)
    };
    let limits = [
        ("a block, bytes", u64::from(BLOCK_MAX_BYTES)),
        ("an image, bytes", index::IMAGE_MAX_BYTES),
        ("an index file, bytes", index::FILE_MAX_BYTES),
        ("blocks in an index", index::BLOCKS_MAX),
        ("extents in an index", index::EXTENTS_MAX),
        ("a line of an index, bytes without LF", index::LINE_MAX_BYTES as u64),
        ("a head file, bytes", HEAD_MAX_BYTES),
        ("mirrors in a head", MIRRORS_MAX as u64),
        ("notes in a head", NOTES_MAX as u64),
        ("a note's key, bytes", NOTE_KEY_MAX_BYTES as u64),
        ("a note's value, bytes", NOTE_VALUE_MAX_BYTES as u64),
        ("a signature's text, bytes", SIGNATURE_MAX_BYTES as u64),
        ("a path, bytes", PATH_MAX_BYTES as u64),
        ("a base URL, bytes", URL_MAX_BYTES as u64),
        ("a name, bytes", NAME_MAX_BYTES as u64),
        ("a label, characters", LABEL_MAX_CHARS as u64),
        ("a profile file, bytes", profile::FILE_MAX_BYTES),
        ("blocks in a profile", profile::BLOCKS_MAX),
        ("the latest time in a profile, milliseconds", profile::MS_MAX),
    ];
    for (what, limit) in limits {
        assert_eq!(said(what), limit, "{what}");
    }
    assert!(DOCUMENT.contains("`bytes + floor(bytes / 1024) + 64`"));
    for bytes in [1, 1023, 1024, 1025, BLOCK_MAX_BYTES] {
        assert_eq!(zlib_max_bytes(bytes), u64::from(bytes + bytes / 1024 + 64));
    }
}
