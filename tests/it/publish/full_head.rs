//! A head without room for one more version: the oldest versions are retired, and none of their objects stays forever.

use std::fs;

use hfl::format::block::BlockRow;
use hfl::format::block::{Codec, Compressor, digests};
use hfl::format::digest::Sha256;
use hfl::format::head::{Head, HeadSignature, SignedHead, VersionRow};
use hfl::format::index::{Extent, ExtentSource, Header, Index};
use hfl::format::layout::RepoPath;
use hfl::format::name::{LABEL_MAX_CHARS, Version};
use hfl::format::signing::SecretKey;
use hfl::format::time::Timestamp;

use crate::support::lab::{Lab, Random, check_mirror, code, stderr};
use hfl::format::comment;

/// With this character, a label takes as much of a head as possible.
const LABEL_CHARACTER: &str = "🐧";
/// More versions than any head has room for, with such labels.
const VERSIONS: u64 = 800;
const BLOCK_BYTES: usize = 4096;
const MIRRORS: [&str; 2] = ["a", "b"];

fn label() -> String {
    LABEL_CHARACTER.repeat(LABEL_MAX_CHARS)
}

/// A version that is built but not yet written.
struct Made {
    row: VersionRow,
    files: Vec<(RepoPath, Vec<u8>)>,
}

/// Version `number` of `os`: one block that all versions share, and one of its own.
fn version(number: u64, key: &SecretKey) -> Made {
    let (image, version, created) = ("os".parse().unwrap(), Version::new(number).unwrap(), created(number));
    let (mut sealer, mut files) = (Compressor::new(Codec::Zlib(1)), Vec::new());
    let blocks: Vec<BlockRow> = [0, number].map(|seed| block(seed, &mut sealer, &mut files)).into();
    let extent = |block| Extent { bytes: BLOCK_BYTES as u64, from: ExtentSource::Block { block, offset: 0 } };
    let (size, split) = (2 * BLOCK_BYTES as u64, "fixed 4096".parse().unwrap());
    let header = Header { image, version, created, size, split, parent: None };
    let index = Index::new(header, blocks, vec![extent(0), extent(1)]).unwrap();
    let (image, file) = (&index.header().image, index.to_bytes());
    let index_sha256 = Sha256::of(&file);
    let signature = key.sign(&file, &comment::index(image, version, &index_sha256)).unwrap();
    files.push((RepoPath::index_signature(image, version, &index_sha256), signature.text().into()));
    let row = VersionRow {
        version,
        index_bytes: file.len() as u64,
        index_sha256,
        created,
        size,
        new_bytes: index.blocks()[1].zlib_bytes.into(),
        label: Some(label().parse().unwrap()),
    };
    files.push((row.index_path(image), file));
    Made { row, files }
}

fn created(number: u64) -> Timestamp {
    Timestamp::from_unix(1_600_000_000 + number)
}

fn block(seed: u64, sealer: &mut Compressor, files: &mut Vec<(RepoPath, Vec<u8>)>) -> BlockRow {
    let bytes = Random(seed).bytes(BLOCK_BYTES);
    let (id, sha256) = digests(&bytes);
    let sealed = sealer.seal(&bytes, id, sha256).unwrap();
    let row = *sealed.row();
    files.push((RepoPath::block(&id), sealed.into_file()));
    row
}

/// Gives two mirrors with a first version a head without room for one more. Returns the versions of that head.
fn fill(lab: &Lab) -> Vec<VersionRow> {
    let key = fs::read_to_string(lab.path("home/.config/hfl/keys/os.key")).unwrap();
    let key = SecretKey::parse(&key, None).unwrap();
    let made: Vec<Made> = (2..=VERSIONS).rev().map(|number| version(number, &key)).collect();
    let versions = made.iter().map(|made| made.row.clone()).collect();
    let mut head = Head { created: created(VERSIONS), versions, ..head(lab, "a") };
    head.drop_oldest_beyond_limit();
    let seal = HeadSignature::Signed(Box::new(key.sign(&head.body(), &head.trusted_comment()).unwrap()));
    let file = SignedHead::new(head.clone(), seal).unwrap().to_bytes();
    for mirror in MIRRORS {
        for directory in ["blocks", "index"] {
            fs::remove_dir_all(lab.path(mirror).join(directory)).unwrap();
        }
        for (path, bytes) in made.iter().take(head.versions.len()).flat_map(|made| &made.files) {
            lab.write(&format!("{mirror}/{path}"), bytes);
        }
        lab.write(&format!("{mirror}/os.head"), &file);
    }
    head.versions
}

fn head(lab: &Lab, mirror: &str) -> Head {
    let file = fs::read(lab.path(mirror).join("os.head")).unwrap();
    SignedHead::parse(&file).unwrap().verify(&lab.trust("os")).unwrap()
}

/// Publishes version `number`, with a row as long as those before it.
fn publish(lab: &Lab, number: u64, expected: i32) {
    lab.write("os.img", [Random(0).bytes(BLOCK_BYTES), Random(number).bytes(BLOCK_BYTES)].concat());
    let label = label();
    let arguments = ["publish", "os.img", "--to", "mirrors.toml", "--split", "fixed:4096", "--label", &label];
    let output = lab.run(&arguments);
    let said = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(code(&output), expected, "{said}");
    assert!(said.contains("the head of os is full: 1 versions up to"), "{said}");
}

/// The number of objects on each mirror that nothing names.
fn strays(lab: &Lab) -> Vec<u64> {
    let output = lab.run(&["verify", "--to", "mirrors.toml", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    report["mirrors"].as_array().unwrap().iter().map(|mirror| mirror["strays"].as_u64().unwrap()).collect()
}

/// This includes a version that drops out of the head while a mirror is away.
#[test]
fn versions_that_a_full_head_drops_are_collected() {
    let lab = Lab::with_mirrors(&MIRRORS);
    lab.write("os.img", Random(1).bytes(BLOCK_BYTES));
    lab.publish(&["os.img"]);
    let full = fill(&lab);
    assert_eq!(strays(&lab), [0, 0]);
    publish(&lab, VERSIONS + 1, 0);
    fs::rename(lab.path("b"), lab.path("away")).unwrap();
    publish(&lab, VERSIONS + 2, 6);
    fs::rename(lab.path("away"), lab.path("b")).unwrap();
    publish(&lab, VERSIONS + 3, 0);

    let held = head(&lab, "a").versions;
    let dropped: Vec<&VersionRow> = full.iter().filter(|row| !held.contains(row)).collect();
    println!("{} versions fill a head; {} dropped out of it", full.len(), dropped.len());
    assert_eq!((dropped.len(), held.len()), (3, full.len()));
    let image = "os".parse().unwrap();
    for (mirror, row) in MIRRORS.iter().flat_map(|mirror| dropped.iter().map(move |row| (mirror, row))) {
        let record = RepoPath::retirement(&image, row.version, &row.index_sha256);
        assert!(lab.path(mirror).join(record.as_str()).is_file(), "mirror {mirror}: {record}");
    }
    assert_eq!(strays(&lab), [0, 0], "what is retired is not lost");

    let report = lab.ok(&["gc", "--to", "mirrors.toml", "--keep", "2000", "--grace-days", "0", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["swept"]["blocks"], 3, "{report}");
    for mirror in MIRRORS {
        assert_eq!(check_mirror(&lab.path(mirror), "os", &lab.trust("os")).len(), held.len());
        let count = |directory: &str| lab.files(&format!("{mirror}/{directory}")).len();
        assert_eq!(count("blocks"), held.len() + 1, "one of each, and one of all");
        assert_eq!((count("index"), count("retired")), (2 * held.len(), 0));
    }
    assert_eq!(strays(&lab), [0, 0]);
}
