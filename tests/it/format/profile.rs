//! Profiles: they read back as written, bad ones are refused with the line number, and they outlive
//! their version.

use std::collections::HashSet;

use hfl::format::block::BlockRow;
use hfl::format::digest::{BlockId, Sha256};
use hfl::format::index::{Header, Index};
use hfl::format::profile::{self, FirstRead, Profile};
use hfl::format::time::Timestamp;
use hfl::split::Rule;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::format::roundtrip::{a_name, a_version, an_index};
use crate::support::format_fixtures::{all_as_expected, edited, hole, part, refusal, with_end};

const FIRST: &str = "7c158e5bb4cc08b0183e8f0642a57609cf6046b2";
const ABOVE: &str = "HFL-PROFILE 1\nimage debian-ps3\nversion 42\nblocks 2\n--\n\
    7c158e5bb4cc08b0183e8f0642a57609cf6046b2 0 1073741824\n20887250fa403c45e9c2c77405d8e16a5b37c5fc 31 0\n";

fn a_profile() -> impl Strategy<Value = Profile> {
    let read = (any::<[u8; 20]>(), 0..=profile::MS_MAX, 0..1u64 << 50);
    (a_name(), a_version(), vec(read, 0..40)).prop_map(|(image, version, mut rows)| {
        rows.sort_by_key(|row| row.1);
        let mut listed = HashSet::new();
        let rows = rows.into_iter().filter(|row| listed.insert(row.0));
        let reads = rows.map(|(id, ms, offset)| FirstRead { id: BlockId(id), ms, offset }).collect();
        Profile::new(image, version, reads).expect("a profile")
    })
}

/// A profile that reads some blocks of an index, and one block that the index does not contain.
fn profile_of(index: &Index, picks: &[prop::sample::Index]) -> Profile {
    let mut reads = vec![FirstRead { id: BlockId([9; 20]), ms: 0, offset: index.size() / 2 }];
    for (ms, pick) in (1..).zip(picks) {
        if index.blocks().is_empty() {
            break;
        }
        let id = index.blocks()[pick.index(index.blocks().len())].id;
        if reads.iter().all(|read| read.id != id) {
            reads.push(FirstRead { id, ms, offset: pick.index(1 << 20) as u64 });
        }
    }
    Profile::new(index.header().image.clone(), index.header().version, reads).expect("a profile")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_profile_reads_back_as_it_was_written(profile in a_profile()) {
        let file = profile.to_bytes();
        prop_assert!(file.is_ascii());
        let read = Profile::parse(&file);
        prop_assert_eq!(read.as_ref(), Ok(&profile));
        let (row, bytes) = profile.to_file();
        prop_assert!(row.path.is_profile_of(profile.image(), profile.version()));
        prop_assert_eq!((row.bytes, row.sha256, &bytes), (file.len() as u64, Sha256::of(&file), &file));
    }

    #[test]
    fn what_is_accepted_is_written_alike(profile in a_profile(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut above = crate::support::format_fixtures::above_end(&profile.to_bytes()).to_vec();
        let at = at.index(above.len());
        above[at] = byte;
        let file = with_end(above);
        if let Ok(read) = Profile::parse(&file) {
            prop_assert_eq!(read.to_bytes(), file);
        }
    }

    #[test]
    fn whatever_is_carried_over_lies_in_the_new_version(
        old in an_index(), new in an_index(), picks in vec(any::<prop::sample::Index>(), 0..12)
    ) {
        let profile = profile_of(&old, &picks);
        let carried = profile.carry(&old, &new);
        let read = Profile::parse(&carried.to_bytes());
        prop_assert_eq!(read.as_ref(), Ok(&carried));
        prop_assert_eq!((carried.image(), carried.version()), (&new.header().image, new.header().version));
        for read in carried.reads() {
            let lies_there = new_block_at(&new, read.offset);
            prop_assert_eq!(lies_there.map(|row| row.id), Some(read.id), "at its offset");
        }
        let kept = |p: &Profile| -> Vec<BlockId> {
            let both = |id: &BlockId| old.blocks().iter().chain(new.blocks()).filter(|row| row.id == *id).count() == 2;
            p.reads().iter().map(|read| read.id).filter(both).collect()
        };
        prop_assert!(kept(&profile).iter().all(|id| kept(&carried).contains(id)));
        let again = profile.carry(&old, &old);
        let own: Vec<BlockId> = profile.reads()[1..].iter().map(|read| read.id).collect();
        let ids: Vec<BlockId> = again.reads().iter().map(|read| read.id).collect();
        prop_assert!(own.iter().all(|id| ids.contains(id)), "nothing is lost without a change");
        prop_assert_eq!(again.carry(&old, &old), again, "and nothing moves");
        let blocks = profile.blocks_of(&new);
        prop_assert!(blocks.iter().all(|&block| (block as usize) < new.blocks().len()));
        prop_assert_eq!(blocks.iter().collect::<HashSet<_>>().len(), blocks.len());
    }
}

fn new_block_at(index: &Index, offset: u64) -> Option<&BlockRow> {
    let mut end = 0;
    let extent = index.extents().iter().find(|extent| {
        end += extent.bytes;
        offset < end
    })?;
    match extent.from {
        hfl::format::index::ExtentSource::Block { block, .. } => Some(&index.blocks()[block as usize]),
        hfl::format::index::ExtentSource::Hole => None,
    }
}

#[test]
fn every_wrong_line_is_named() {
    let cases = [
        ("PROFILE 1", "PROFILE 2", "line 1: format 2, this hfl reads 1; update hfl"),
        ("HFL-PROFILE 1", "HFL-INDEX 1", "line 1: expected HFL-PROFILE"),
        ("image debian-ps3", "image Debian", "line 2, column 7: 'D' is not allowed in a name (allowed: a-z 0-9 . _ -)"),
        ("version 42", "version 0", "line 3, column 9: a version is a number from 1 to 4294967295"),
        ("version 42\n", "", "line 3, column 1: expected `version`, found `blocks`"),
        ("blocks 2", "blocks 3", "line 8: 3 blocks announced, 2 found"),
        ("blocks 2", "blocks 400", "line 4, column 11: 400 blocks announced, the file is too short for them"),
        ("blocks 2", "blocks 1", "line 7, column 1: expected `end`, found `20887250fa403c45e9c2c77405d8e16a5b37c5fc`"),
        ("blocks 2", "blocks 02", "line 4, column 8: blocks has leading zeros"),
        ("blocks 2", "blocks 524289", "line 4, column 8: blocks is outside the limits, 0 to 524288"),
        ("--\n", "", "line 5: expected `--` after the header"),
        (
            "7c158e5b",
            "7C158e5b",
            "line 6, column 2: expected a SHA-1, 40 lower-case hexadecimal digits; found 40 characters",
        ),
        (" 31 0", " 31", "line 7, column 44: expected a space"),
        (" 31 0", " 31 0 ", "line 7, column 46: expected the end of the line"),
        (" 31 0", " 031 0", "line 7, column 42: the milliseconds since the start has leading zeros"),
        (" 31 0", " -1 0", "line 7, column 42: expected the milliseconds since the start, a decimal number"),
        (
            " 31 0",
            " 4294967296 0",
            "line 7, column 42: the milliseconds since the start is outside the limits, 0 to 4294967295",
        ),
        (
            " 31 0",
            " 31 1125899906842624",
            "line 7, column 45: the offset in the image is outside the limits, 0 to 1125899906842623",
        ),
        (" 0 1073741824", " 32 1073741824", "line 7: read before the block above it, the earliest must stand first"),
        (
            "20887250fa403c45e9c2c77405d8e16a5b37c5fc",
            FIRST,
            "line 7: block 7c158e5bb4cc08b0183e8f0642a57609cf6046b2 is listed twice",
        ),
    ];
    let said = |from, to| refusal(Profile::parse(&with_end(edited(ABOVE, from, to))));
    all_as_expected(cases.map(|(from, to, expected)| ((from, to), said(from, to), expected.to_owned())));
}

#[test]
fn files_that_are_no_profile_are_named_as_what_they_are() {
    let file = with_end(ABOVE);
    let text = String::from_utf8(file.clone()).unwrap();
    let few = text.replacen("blocks 2", "blocks 3", 1).replacen("--\n", &format!("--\n{}\n", "0".repeat(40)), 1);
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("empty", Vec::new(), "empty, expected HFL-PROFILE"),
        ("a page", b"<html>".to_vec(), "line 1: looks like HTML (captive portal or 404 page?)"),
        ("no end", ABOVE.into(), "line 8: the file ends here, too early"),
        ("cut off", file[..file.len() - 1].to_vec(), "line 8: no line feed at its end"),
        ("damaged", text.replacen(" 31 0", " 32 0", 1).into(), "line 8: checksum mismatch: the file is damaged"),
        ("longer", format!("{text}\n").into(), "line 9: something follows the `end` line"),
        ("a short row", few.into(), "line 6, column 41: expected a space"),
        ("huge", vec![b'x'; (64 << 20) + 1], "67108865 bytes, at most 67108864 are allowed"),
    ];
    all_as_expected(cases.map(|(what, file, expected)| (what, refusal(Profile::parse(&file)), expected.to_owned())));
}

#[test]
fn the_largest_profile_fits_its_file() {
    let id = |n: u64| BlockId(Sha256::of(&n.to_le_bytes()).0[..20].try_into().unwrap());
    let read = |n| FirstRead { id: id(n), ms: profile::MS_MAX, offset: (1 << 50) - 1 };
    let image = "x".repeat(64).parse().unwrap();
    let version = hfl::format::name::Version::new(u32::MAX.into()).unwrap();
    let mut reads: Vec<FirstRead> = (0..profile::BLOCKS_MAX).map(read).collect();
    let file = Profile::new(image, version, reads.clone()).unwrap().to_bytes();
    println!("{} blocks make {} bytes", profile::BLOCKS_MAX, file.len());
    assert!(file.len() as u64 <= profile::FILE_MAX_BYTES);
    assert!(Profile::parse(&file).is_ok());
    reads.push(read(profile::BLOCKS_MAX));
    let refused = Profile::new("x".parse().unwrap(), version, reads);
    assert_eq!(refusal(refused), "524289 blocks, at most 524288 are allowed");
}

/// An index of consecutive blocks, given as content byte and length. Content 0 is a hole.
fn index_of(version: u64, blocks: &[(u8, u32)]) -> Index {
    let mut index = (Vec::<BlockRow>::new(), Vec::new());
    for &(content, bytes) in blocks {
        let sha256 = Sha256::of(&[content]);
        let id = BlockId([content; 20]);
        let place = index.0.iter().position(|row| row.id == id);
        if content == 0 {
            hole(bytes.into()).push_to(&mut index.1);
            continue;
        }
        let place = place.unwrap_or_else(|| {
            index.0.push(BlockRow { id, sha256, bytes, zlib_bytes: 10 });
            index.0.len() - 1
        });
        part(place as u32, 0, bytes.into()).push_to(&mut index.1);
    }
    let size = index.1.iter().map(|extent| extent.bytes).sum();
    let created = Timestamp::from_unix(0);
    let version = hfl::format::name::Version::new(version).unwrap();
    let header =
        Header { image: "x".parse().unwrap(), version, created, size, split: Rule::PAGES.into(), parent: None };
    Index::new(header, index.0, index.1).unwrap()
}

#[test]
fn blocks_are_found_again_by_content_and_by_position() {
    let old = index_of(1, &[(1, 100), (2, 100), (3, 100), (0, 50), (4, 100)]);
    // Block 1 moved to the end, 2 was split in two, 3 became a hole, 4 starts inside another block.
    let new = index_of(2, &[(9, 100), (5, 60), (6, 80), (0, 60), (7, 90), (8, 60), (1, 100)]);
    let read = |content: u8, ms, offset| FirstRead { id: BlockId([content; 20]), ms, offset };
    let reads = vec![read(4, 0, 380), read(3, 1, 250), read(1, 2, 7), read(2, 3, 150)];
    let profile = Profile::new("x".parse().unwrap(), old.header().version, reads).unwrap();
    let carried = profile.carry(&old, &new);
    let found: Vec<(u8, u64, u64)> = carried.reads().iter().map(|r| (r.id.0[0], r.ms, r.offset)).collect();
    assert_eq!(found, [(7, 0, 350), (8, 0, 390), (6, 1, 200), (1, 2, 450), (5, 3, 100)]);
    let blocks: Vec<u8> = profile.blocks_of(&new).iter().map(|&b| new.blocks()[b as usize].id.0[0]).collect();
    assert_eq!(blocks, [7, 1, 5], "what is known without the old index");
    assert_eq!(profile.carry(&old, &old).reads(), profile.reads());
}

#[test]
fn a_new_version_is_shipped_with_the_given_profile_or_the_one_before() {
    let (old, new) = (index_of(1, &[(1, 100), (2, 100)]), index_of(2, &[(3, 100), (1, 100)]));
    let read = |content: u8, offset| FirstRead { id: BlockId([content; 20]), ms: 0, offset };
    let made = |image: &str, version: u64, reads| {
        Profile::new(image.parse().unwrap(), hfl::format::name::Version::new(version).unwrap(), reads).unwrap()
    };
    let previous = made("x", 1, vec![read(1, 0)]);
    let given = made("x", 2, vec![read(3, 0)]);
    let shipped = |given, previous| Profile::for_version(given, previous, [&old], &new);
    let blocks = |p: Profile| p.reads().iter().map(|read| (read.id.0[0], read.offset)).collect::<Vec<_>>();
    assert_eq!(shipped(None, None), Ok(None));
    assert_eq!(shipped(None, Some(&previous)).unwrap().map(blocks), Some(vec![(1, 100)]));
    assert_eq!(shipped(Some(&given), Some(&previous)).unwrap().map(blocks), Some(vec![(3, 0)]));
    let unknown = made("x", 9, vec![read(8, 150), read(7, 9000)]);
    assert_eq!(shipped(Some(&unknown), None).unwrap().map(blocks), Some(vec![(1, 150)]), "by its offset alone");
    let empty = made("x", 1, Vec::new());
    assert_eq!(shipped(Some(&empty), None), Ok(None));
    let other = made("y", 1, vec![read(1, 0)]);
    let refused = shipped(Some(&other), None).unwrap_err();
    assert_eq!(refused.to_string(), "this is a profile of image y, not of x");
    assert_eq!(shipped(None, Some(&other)), Ok(None));

    let (image, version) = (given.image().clone(), given.version());
    let client = hfl::format::head::FileRow { path: "client/a".parse().unwrap(), bytes: 1, sha256: Sha256::of(b"") };
    let mut files = vec![client.clone(), previous.to_file().0];
    hfl::format::profile::ship::put_row(&mut files, &image, version, given.to_file().0);
    let again = made("x", 2, vec![read(1, 100)]);
    hfl::format::profile::ship::put_row(&mut files, &image, version, again.to_file().0);
    assert_eq!(files, [client, previous.to_file().0, again.to_file().0], "one for each version, sorted");
}

#[test]
fn the_path_of_a_profile_is_its_own() {
    let (image, version) = ("debian".parse().unwrap(), hfl::format::name::Version::new(4).unwrap());
    let is = |path: &str| path.parse::<hfl::format::layout::RepoPath>().unwrap().is_profile_of(&image, version);
    assert!(is("profile/debian/4-0a1b2c3d4e5f.profile"));
    for other in [
        "profile/debian/42-0a1b2c3d4e5f.profile",
        "profile/debian-x/4-0a1b2c3d4e5f.profile",
        "profile/debian/4-0a1b2c3d4e5.profile",
        "profile/debian/4-0a1b2c3d4e5F.profile",
        "profile/debian/4-0a1b2c3d4e5f",
        "profile/debian/4-0a1b2c3d4e5f.profile.minisig",
    ] {
        assert!(!is(other), "{other}");
    }
}
