//! Shared by the tests of the formats.

use std::fmt::{Debug, Display};
use std::path::PathBuf;

use hfl::format::digest::Sha256;
use hfl::format::index::{Extent, ExtentSource};
use hfl::format::signature::PublicKey;
use hfl::format::signing::SecretKey;

/// Path of a golden file.
pub fn golden_path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect()
}

pub fn golden(name: &str) -> Vec<u8> {
    let path = golden_path(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub fn golden_text(name: &str) -> String {
    String::from_utf8(golden(name)).expect("UTF-8")
}

/// The public key of the golden signatures.
pub fn golden_key() -> PublicKey {
    golden_text("test-only.pub").parse().expect("the golden public key")
}

/// The secret key of the golden signatures, used only in tests.
pub fn golden_secret() -> SecretKey {
    SecretKey::parse(&golden_text("test-only.key"), None).expect("the golden secret key")
}

/// An index file: this text, then a correct `end` line.
pub fn with_end(above: impl AsRef<[u8]>) -> Vec<u8> {
    let above = above.as_ref();
    let mut file = above.to_vec();
    file.extend_from_slice(format!("end {}\n", Sha256::of(above)).as_bytes());
    file
}

/// The part of an index above its `end` line.
pub fn above_end(file: &[u8]) -> &[u8] {
    let end = file.windows(5).rposition(|w| w == b"\nend ");
    end.map_or(file, |at| &file[..at + 1])
}

/// The golden index with one occurrence of `from` replaced by `to`, and a correct `end` line.
pub fn edited_index(from: &str, to: &str) -> Vec<u8> {
    let file = golden_text("sample.idx");
    with_end(edited(std::str::from_utf8(above_end(file.as_bytes())).expect("ASCII"), from, to))
}

/// `text` with one occurrence of `from`, which must be present, replaced by `to`.
pub fn edited(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in the text");
    text.replacen(from, to, 1)
}

/// The error message of a result.
pub fn refusal<T: Debug, E: Display>(result: Result<T, E>) -> String {
    match result {
        Ok(value) => format!("accepted as {value:?}"),
        Err(e) => e.to_string(),
    }
}

pub fn part(block: u32, offset: u32, bytes: u64) -> Extent {
    Extent { bytes, from: ExtentSource::Block { block, offset } }
}

pub fn hole(bytes: u64) -> Extent {
    Extent { bytes, from: ExtentSource::Hole }
}

/// Fails with a list of all cases whose message is not the expected one.
pub fn all_as_expected<C: Debug>(cases: impl IntoIterator<Item = (C, String, String)>) {
    let wrong = cases.into_iter().filter(|(_, said, expected)| said != expected);
    let wrong: Vec<String> =
        wrong.map(|(c, said, expected)| format!("{c:?}\n  said     {said}\n  expected {expected}")).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
