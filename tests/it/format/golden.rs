//! Files written by published versions of hfl: they must read the same forever.

use std::process::Command;

use hfl::config::{Mirrors, WritePlace};
use hfl::format::block::{Block, Codec, Compressor, digests};
use hfl::format::head::{Head, HeadSignature, SignedHead, Trust};
use hfl::format::index::Index;
use hfl::format::name::Version;
use hfl::format::signature::Signature;
use hfl::split::Rule;

use crate::support::format_fixtures::{golden, golden_key, golden_path, golden_secret, golden_text, hole, part};

fn index() -> Index {
    Index::parse(&golden("sample.idx")).expect("the golden index")
}

fn head(name: &str, trust: &Trust) -> Head {
    SignedHead::parse(&golden(name)).expect(name).verify(trust).expect(name)
}

#[test]
fn the_index_reads_and_writes_the_same() {
    let index = index();
    assert_eq!(index.to_bytes(), golden("sample.idx"));
    let header = index.header();
    assert_eq!(header.image.as_str(), "debian-ps3");
    assert_eq!(header.version.number(), 42);
    assert_eq!(header.created.unix(), 1_795_377_000);
    assert_eq!((header.split.to_string().as_str(), Rule::try_from(&header.split)), ("pages 1", Ok(Rule::PAGES)));
    let parent = "e2c3b106bb5353da12251dd2d19ba66755162f9531598caa38dfaed9ae64002b";
    assert_eq!(header.parent.map(|p| p.to_string()).as_deref(), Some(parent));
    assert_eq!(index.size(), 1_073_791_493);
    assert_eq!(index.hole_bytes(), (1 << 30) + 512);
    assert_eq!(index.zlib_bytes(), 15876 + 362 + 54 + 16);
}

#[test]
fn the_index_means_what_it_says() {
    let index = index();
    let rows: Vec<_> = index.blocks().iter().map(|row| (row.id.to_string(), row.bytes, row.zlib_bytes)).collect();
    let expected = [
        ("7c158e5bb4cc08b0183e8f0642a57609cf6046b2", 20480, 15876),
        ("20887250fa403c45e9c2c77405d8e16a5b37c5fc", 12288, 362),
        ("f606d19ca8ef186d263889d163e70c90613c2820", 4096, 54),
        ("a0f4ea7d91495df92bbac2e2149dfb850fe81396", 5, 16),
    ];
    assert_eq!(rows, expected.map(|(id, bytes, zlib)| (id.to_owned(), bytes, zlib)));
    let extents = [
        part(0, 0, 8192),
        part(1, 4096, 4096),
        part(0, 8192, 12288),
        hole(1 << 30),
        part(1, 0, 4096),
        hole(512),
        part(1, 8192, 4096),
        part(2, 0, 4096),
        part(2, 0, 4096),
        part(1, 0, 8192),
        part(3, 0, 5),
    ];
    assert_eq!(index.extents(), extents);
}

#[test]
fn the_signed_head_reads_and_writes_the_same() {
    let file = golden("signed.head");
    let sealed = SignedHead::parse(&file).expect("the golden head");
    assert!(sealed.is_signed());
    assert_eq!(sealed.to_bytes(), file);
    let head = sealed.verify(&Trust::Key(golden_key())).expect("signed by the golden key");
    assert_eq!(head.created.to_string(), "2026-11-22T19:50:03Z");
    assert_eq!(head.expires.map(|t| t.to_string()).as_deref(), Some("2026-12-22T19:50:03Z"));
    let mirrors: Vec<_> = head.mirrors.iter().map(|m| m.as_str()).collect();
    assert_eq!(mirrors, ["https://b.example/hfl/", "http://[2001:db8::1]:8080/", "https://a.example/~hfl/x%20y/"]);
    let files: Vec<_> = head.files.iter().map(|f| (f.path.as_str(), f.bytes)).collect();
    let client = ("client/hfl-mount-1.0.0-x86_64-linux", 6_000_000);
    let profile = ("profile/debian-ps3/42-0a1b2c3d4e5f.profile", 0);
    assert_eq!(files, [("boot/debian-ps3/42/vmlinuz", 14_186_432), client, profile]);
    let labels: Vec<_> = head.versions.iter().map(|v| v.label.as_ref().map(|l| l.as_str())).collect();
    assert_eq!(labels, [Some("nightly"), None, Some("täglich 毎日, with  spaces")]);
    let numbers: Vec<_> = head.versions.iter().map(|v| (v.version.number(), v.index_bytes, v.new_bytes)).collect();
    assert_eq!(numbers, [(42, 832, 42000), (41, 4_098_113, 41000), (7, 97, 7000)]);
    assert_eq!(head.version(Version::new(7).unwrap()).map(|v| v.created.unix()), Some(0));
}

#[test]
fn the_head_leads_to_the_index_and_the_index_to_the_version_before() {
    let head = head("signed.head", &Trust::Key(golden_key()));
    let newest = head.newest();
    assert_eq!(newest.index_sha256, hfl::format::digest::Sha256::of(&golden("sample.idx")));
    assert_eq!(newest.index_path(&head.image).as_str(), "index/debian-ps3/42-b41794066046.idx");
    assert_eq!(index().header().parent, Some(head.versions[1].index_sha256));
}

#[test]
fn the_unsigned_head_reads_and_writes_the_same_and_is_believed_only_on_request() {
    let file = golden("unsigned.head");
    let sealed = SignedHead::parse(&file).expect("the golden head");
    assert!(!sealed.is_signed());
    assert_eq!(sealed.to_bytes(), file);
    let refused = sealed.clone().verify(&Trust::Key(golden_key())).expect_err("not signed");
    assert_eq!(refused.to_string(), "it is not signed, and a key is pinned");
    let head = sealed.verify(&Trust::Anyone).expect("asked for");
    assert_eq!((head.expires, head.mirrors.len(), head.files.len(), head.versions.len()), (None, 0, 0, 1));
}

#[test]
fn the_block_reads_the_same() {
    let row = index().blocks()[2];
    let block = Block::open(&row, &golden("sample.block")).expect("the golden block");
    let expected: Vec<u8> = b"hfl: golden block\n".iter().copied().cycle().take(4096).collect();
    assert_eq!(*block, *expected);
    let (id, sha256) = digests(&expected);
    assert_eq!((id, sha256), (row.id, row.sha256));
    // Today's compressor may encode the block differently, but it reads as the same block.
    let today = Compressor::new(Codec::Zlib(6)).seal(&expected, id, sha256).expect("sealed").into_file();
    assert_eq!(*Block::open(&row, &today).expect("today's file"), *expected);
}

#[test]
fn a_signature_made_today_verifies_like_the_golden_one() {
    let (file, key) = (golden("sample.idx"), golden_key());
    let digest = hfl::format::digest::Sha256::of(&file);
    let comment = format!("hfl index debian-ps3 42 {digest}");
    let old: Signature = golden_text("sample.idx.minisig").parse().expect("the golden signature");
    key.verify(&file, &old, &comment).expect("the golden signature");
    let new = golden_secret().sign(&file, &comment).expect("signed");
    key.verify(&file, &new, &comment).expect("today's signature");
    assert!(new.text().contains(&format!("\ntrusted comment: {comment}\n")), "{}", new.text());
}

#[test]
fn minisign_accepts_the_golden_index() {
    let mut minisign = Command::new("minisign");
    minisign.args(["-V", "-p"]).arg(golden_path("test-only.pub")).arg("-m").arg(golden_path("sample.idx"));
    let output = match minisign.output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: minisign is not installed");
            return;
        }
        output => output.expect("minisign"),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("Trusted comment: hfl index debian-ps3 42 b4179406"), "{text}");
}

#[test]
fn mirrors_toml_means_what_it_says() {
    let config = Mirrors::parse(&golden_text("mirrors.toml")).expect("the golden mirrors.toml");
    let publish = &config.publish;
    assert_eq!(publish.split.as_deref(), Some("content"));
    assert_eq!((publish.level, publish.expires_days, publish.keep), (Some(6), Some(30), Some(14)));
    assert_eq!(publish.key.as_deref(), Some("keys/debian-ps3.key"));
    assert_eq!((publish.client.clone(), publish.templates.as_deref()), (vec!["hfl-mount".into()], Some("templates")));
    let [here, tokyo] = &config.mirrors[..] else { panic!("the third mirror is disabled: {:?}", config.mirrors) };
    assert_eq!((here.name.as_str(), here.read_back, here.jobs), ("here", false, None));
    assert_eq!((&here.write, here.read.is_none()), (&WritePlace::Directory("./mirror".into()), true));
    assert_eq!((tokyo.name.as_str(), tokyo.read_back, tokyo.jobs), ("tokyo", true, Some(16)));
    assert_eq!(tokyo.write.to_string(), "sftp://publisher@tokyo.example:2222/srv/hfl");
    assert_eq!(tokyo.read.as_ref().map(|r| r.as_str()), Some("https://tokyo.example/hfl/"));
}

#[test]
fn a_sealed_head_goes_through_its_parts_unchanged() {
    let head = head("signed.head", &Trust::Key(golden_key()));
    let signature = golden_secret().sign(&head.body(), &head.trusted_comment()).expect("signed");
    let sealed = SignedHead::new(head.clone(), HeadSignature::Signed(Box::new(signature))).expect("valid");
    assert_eq!(SignedHead::parse(&sealed.to_bytes()).as_ref(), Ok(&sealed));
    assert_eq!(sealed.verify(&Trust::Key(golden_key())), Ok(head));
}
