//! Invalid signatures, each with its own message.

use hfl::format::head::{SignedHead, Trust};
use hfl::format::signature::{PublicKey, Signature};
use hfl::format::signing::SecretKey;

use crate::support::format_fixtures::{golden, golden_key, golden_secret, golden_text, refusal};

const COMMENT: &str = "hfl index debian-ps3 42 b417940660460f7d280b620c71300865a91d8f236e099dc6fc60cdc2d7933da9";

/// The message for this signature of the golden index.
fn said(signature: &str, key: &PublicKey) -> String {
    match signature.parse::<Signature>() {
        Ok(signature) => refusal(key.verify(&golden("sample.idx"), &signature, COMMENT)),
        Err(e) => e.to_string(),
    }
}

#[test]
fn six_ways_six_messages() {
    let good = golden_text("sample.idx.minisig");
    let (other, _) = SecretKey::generate().expect("randomness");
    let head =
        golden_secret().sign(&golden("signed.head"), "hfl head debian-ps3 2026-11-22T19:50:03Z").expect("signed");
    let two: String = good.split_inclusive('\n').take(2).collect();
    let said = [
        said(&good, other.public()),
        said(&good.replace("\nRUR", "\nRWR"), &golden_key()),
        said(&good.replace("\nRUR", "\nRU*"), &golden_key()),
        said(&two, &golden_key()),
        said(&good.replace(COMMENT, "nothing of the kind"), &golden_key()),
        said(head.text(), &golden_key()),
    ];
    let expected = [
        "signed with another key than the one given".to_owned(),
        "a signature in minisign's legacy form (Ed); only the prehashed form (ED) is accepted".to_owned(),
        "not a minisign signature (bad base64 or comment line)".to_owned(),
        "a minisign signature has 4 lines, found 2".to_owned(),
        "the bytes or the trusted comment (`nothing of the kind`) are not the ones that were signed".to_owned(),
        format!("this is the signature of `hfl head debian-ps3 2026-11-22T19:50:03Z`, expected that of `{COMMENT}`"),
    ];
    assert_eq!(said, expected);
}

#[test]
fn altered_bytes_and_comments_do_not_verify() {
    let (key, good) = (golden_key(), golden_text("sample.idx.minisig"));
    let signature: Signature = good.parse().expect("golden");
    let mut bytes = golden("sample.idx");
    assert_eq!(key.verify(&bytes, &signature, COMMENT), Ok(()));
    bytes[100] ^= 1;
    assert_eq!(refusal(key.verify(&bytes, &signature, COMMENT)), "the bytes are not the ones that were signed");
    // The comment is edited to name another version, while the signed bytes are unchanged.
    let moved = good.replace("debian-ps3 42", "debian-ps3 43");
    assert!(said(&moved, &key).starts_with("this is the signature of `hfl index debian-ps3 43"));
    assert_eq!(said(&good.replace("\nRUR", "\nRVR"), &key), "an unknown signature algorithm");
}

/// No single character of a signed head can change undetected, except in the untrusted comment.
#[test]
fn every_byte_of_a_signed_head_is_covered() {
    let file = golden("signed.head");
    let comment = b"signature of hfl";
    let free = file.windows(comment.len()).position(|w| w == comment).expect("the untrusted comment");
    let trust = Trust::Key(golden_key());
    for at in (0..file.len()).filter(|at| !(free..free + comment.len()).contains(at)) {
        let mut changed = file.clone();
        changed[at] ^= 1;
        let verified = SignedHead::parse(&changed).ok().and_then(|sealed| sealed.verify(&trust).ok());
        assert!(verified.is_none(), "byte {at} ({:?})", char::from(file[at]));
    }
}

#[test]
fn a_signature_does_not_go_with_another_head() {
    let text = golden_text("signed.head");
    let older = text.replace("created 2026-11-22T19:50:03Z", "created 2026-11-22T19:50:04Z");
    let sealed = SignedHead::parse(older.as_bytes()).expect("well-formed");
    let why = "this is the signature of `hfl head debian-ps3 2026-11-22T19:50:03Z`, expected that of `hfl head debian-ps3 2026-11-22T19:50:04Z`";
    assert_eq!(refusal(sealed.verify(&Trust::Key(golden_key()))), why);
    let label = text.replace("nightly", "nightly!");
    let sealed = SignedHead::parse(label.as_bytes()).expect("well-formed");
    assert_eq!(refusal(sealed.verify(&Trust::Key(golden_key()))), "the bytes are not the ones that were signed");
}

#[test]
fn garbage_is_no_secret_key() {
    let good = golden_text("test-only.key");
    let line = good.lines().nth(1).expect("a key");
    assert!(SecretKey::parse(line, None).is_ok());
    let public = golden_text("test-only.pub");
    let bad = [
        "",
        "\n",
        "x",
        "untrusted comment: x\n",
        &line[4..],
        &line.replace('A', "*"),
        &public,
        "\u{0}\u{e4}",
        &"A".repeat(212),
    ];
    for text in bad {
        let why = SecretKey::parse(text, None).err().unwrap_or_else(|| panic!("{text:?} is accepted")).to_string();
        assert!(text.trim().is_empty() || !why.contains(text.trim()), "{why}");
    }
}
