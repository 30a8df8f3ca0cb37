//! Everything that can be written reads back the same: random indexes as splitters make them, and random
//! heads.

use hfl::format::block::BlockRow;
use hfl::format::digest::{BlockId, Sha256};
use hfl::format::head::{FileRow, Head, HeadSignature, Note, SignedHead, Trust, VersionRow};
use hfl::format::index::{Extent, ExtentSource, Header, Index, Split};
use hfl::format::layout::RepoPath;
use hfl::format::name::{Label, Name, Version};
use hfl::format::time::Timestamp;
use hfl::split::Rule;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use crate::support::format_fixtures::{golden_key, golden_secret, hole, part};

pub fn a_name() -> impl Strategy<Value = Name> {
    "[a-z0-9][a-z0-9._-]{0,63}".prop_map(|text| text.parse().expect("a name"))
}

pub fn a_version() -> impl Strategy<Value = Version> {
    (1..=u64::from(u32::MAX)).prop_map(|n| Version::new(n).expect("a version"))
}

fn a_digest() -> impl Strategy<Value = Sha256> {
    any::<[u8; 32]>().prop_map(Sha256)
}

fn a_time() -> impl Strategy<Value = Timestamp> {
    (0..253_402_300_800u64).prop_map(Timestamp::from_unix)
}

fn a_split() -> impl Strategy<Value = Split> {
    let sizes = (8u64..=8192).prop_map(|sectors| Rule::fixed(512 * sectors).expect("a size"));
    let known = prop_oneof![sizes, Just(Rule::PAGES), Just(Rule::Bytes)].prop_map(Split::from);
    let unknown = "[a-z][a-z0-9-]{0,31} (0|[1-9][0-9]{0,18})( ([a-z][a-z0-9-]{0,15}|[1-9][0-9]{0,9})){0,5}";
    prop_oneof![known, unknown.prop_map(|text| text.parse().expect("words of a rule"))]
}

fn some_notes() -> impl Strategy<Value = Vec<Note>> {
    let text = "(must-)?[a-z][a-z0-9.-]{0,26} [!-~]{1,40}( [!-~]{1,40}){0,4}";
    vec(text.prop_map(|text| text.parse().expect("a note")), 0..6).prop_map(|mut notes: Vec<Note>| {
        notes.sort();
        notes.dedup();
        notes
    })
}

/// One step of a splitter.
#[derive(Debug, Clone)]
enum Step {
    Hole(u64),
    /// A new block, contiguous in the image.
    Block(u32),
    /// A new block of pieces that are not contiguous, the later ones possibly first.
    Gathered(Vec<(u32, u64)>, bool),
    /// A part of an earlier block.
    Again(prop::sample::Index, u32, u32),
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..1u64 << 40).prop_map(Step::Hole),
        (1..=4u32 << 20).prop_map(Step::Block),
        (vec((1..65536u32, 1..1u64 << 30), 1..6), any::<bool>())
            .prop_map(|(pieces, turn)| Step::Gathered(pieces, turn)),
        (any::<prop::sample::Index>(), any::<u32>(), any::<u32>())
            .prop_map(|(i, from, length)| Step::Again(i, from, length)),
    ]
}

#[derive(Default)]
struct Image {
    blocks: Vec<BlockRow>,
    extents: Vec<Extent>,
}

impl Image {
    fn block(&mut self, bytes: u32) -> u32 {
        let sha256 = Sha256::of(&self.blocks.len().to_le_bytes());
        let id = BlockId(sha256.0[..20].try_into().expect("20 bytes"));
        self.blocks.push(BlockRow { id, sha256, bytes, zlib_bytes: bytes / 3 + 8 });
        self.blocks.len() as u32 - 1
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Hole(bytes) => hole(bytes).push_to(&mut self.extents),
            Step::Block(bytes) => {
                let block = self.block(bytes);
                part(block, 0, bytes.into()).push_to(&mut self.extents);
            }
            Step::Gathered(pieces, turn) => {
                let block = self.block(pieces.iter().map(|(bytes, _)| bytes).sum());
                let mut offset = 0;
                let mut parts = Vec::new();
                for (bytes, gap) in pieces {
                    parts.push((part(block, offset, bytes.into()), gap));
                    offset += bytes;
                }
                if turn {
                    parts.reverse();
                }
                for (part, gap) in parts {
                    part.push_to(&mut self.extents);
                    hole(gap).push_to(&mut self.extents);
                }
            }
            Step::Again(index, from, length) if !self.blocks.is_empty() => {
                let block = index.index(self.blocks.len());
                let bytes = self.blocks[block].bytes;
                let offset = from % bytes;
                part(block as u32, offset, u64::from(1 + length % (bytes - offset))).push_to(&mut self.extents);
            }
            Step::Again(..) => {}
        }
    }
}

pub fn an_index() -> impl Strategy<Value = Index> {
    let header = (a_name(), a_version(), a_time(), a_split(), option::of(a_digest()));
    (header, a_step(), vec(a_step(), 0..12)).prop_map(|((image, version, created, split, parent), first, steps)| {
        let mut made = Image::default();
        if let Step::Again(..) = first {
            made.take(Step::Hole(1));
        }
        std::iter::once(first).chain(steps).for_each(|step| made.take(step));
        let size = made.extents.iter().map(|e| e.bytes).sum();
        let header = Header { image, version, created, size, split, parent };
        Index::new(header, made.blocks, made.extents).expect("what a splitter makes is an index")
    })
}

fn a_label() -> impl Strategy<Value = Label> {
    "\\PC{1,64}".prop_filter_map("no label", |text| text.parse().ok())
}

fn a_file() -> impl Strategy<Value = FileRow> {
    let path = "(client|boot|profile)(/[a-zA-Z0-9_+][a-zA-Z0-9._+-]{0,20}){1,4}";
    (path, 0..=1u64 << 50, a_digest()).prop_map(|(path, bytes, sha256)| FileRow {
        path: path.parse::<RepoPath>().expect("a path"),
        bytes,
        sha256,
    })
}

fn a_row() -> impl Strategy<Value = VersionRow> {
    let sizes = (1..=512u64 << 20, 1..=1u64 << 50, 0..=1u64 << 50);
    (a_version(), sizes, a_digest(), a_time(), option::of(a_label())).prop_map(
        |(version, (index_bytes, size, new_bytes), index_sha256, created, label)| VersionRow {
            version,
            index_bytes,
            index_sha256,
            created,
            size,
            new_bytes,
            label,
        },
    )
}

pub fn a_head() -> impl Strategy<Value = Head> {
    let mirrors =
        btree_set("https?://[a-z0-9]{1,12}(\\.[a-z]{2,5})?(:[1-9][0-9]{0,3})?/([a-zA-Z0-9~_-]{1,9}/){0,3}", 0..5);
    let rest = (mirrors, vec(a_file(), 0..5), vec(a_row(), 1..9));
    (a_name(), a_time(), option::of(a_time()), rest, some_notes()).prop_map(
        |(image, created, expires, (mirrors, mut files, mut versions), notes)| {
            files.sort_by(|a, b| a.path.cmp(&b.path));
            files.dedup_by(|a, b| a.path == b.path);
            versions.sort_by_key(|row| std::cmp::Reverse(row.version));
            versions.dedup_by_key(|row| row.version);
            let mirrors = mirrors.iter().rev().map(|url| url.parse().expect("a URL")).collect();
            Head { image, created, expires, mirrors, files, notes, versions }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_index_reads_back_as_it_was_written(index in an_index()) {
        let file = index.to_bytes();
        prop_assert!(file.is_ascii());
        prop_assert!(file.split(|&b| b == b'\n').all(|line| line.len() <= hfl::format::index::LINE_MAX_BYTES));
        let read = Index::parse(&file);
        prop_assert_eq!(read.as_ref(), Ok(&index));
        let covered: u64 = index.extents().iter().map(|e| e.bytes).sum();
        prop_assert_eq!(covered, index.size());
        let named = index.extents().iter().filter_map(|e| match e.from { ExtentSource::Block { block, .. } => Some(block), ExtentSource::Hole => None });
        prop_assert_eq!(named.max().map_or(0, |last| last as usize + 1), index.blocks().len());
    }

    #[test]
    fn a_head_reads_back_as_it_was_written(head in a_head()) {
        let sealed = SignedHead::new(head.clone(), HeadSignature::Unsigned).expect("valid");
        let read = SignedHead::parse(&sealed.to_bytes());
        prop_assert_eq!(read.as_ref(), Ok(&sealed));
        prop_assert_eq!(sealed.verify(&Trust::Anyone), Ok(head));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_signed_head_verifies_after_reading(head in a_head()) {
        let signature = golden_secret().sign(&head.body(), &head.trusted_comment()).expect("signed");
        let file = SignedHead::new(head.clone(), HeadSignature::Signed(Box::new(signature))).expect("valid").to_bytes();
        let read = SignedHead::parse(&file).expect("readable");
        prop_assert_eq!(read.to_bytes(), file);
        prop_assert_eq!(read.verify(&Trust::Key(golden_key())), Ok(head));
    }
}
