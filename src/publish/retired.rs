//! The record of a version that its head no longer names: what was its own, and since when it may go.
//!
//! `retired/NAME/VERSION-DIGITS` on every mirror, canonical text:
//!
//! ```text
//! HFL-RETIRED 1
//! image debian-ps3
//! marked 2026-11-22T19:50:00Z
//! version 41 4098113 40c1...(64) 2026-11-21T19:50:02Z 8589934592
//! file boot/debian-ps3/41/vmlinuz-77aa1b2c3d4e 14186432 77aa...(64)
//! ```
//!
//! The version's line has its number, bytes and SHA-256 of its index, when it was published and the image's size. Nothing is
//! believed of a record but which index to look at; whether a block may go is decided by the heads that stand.

use std::fmt::Write as _;

use super::error::Error;
use super::release::Object;
use crate::head::{FileRow, VersionRow};
use crate::layout::RepoPath;
use crate::name::Name;
use crate::time::Timestamp;

/// Below which directory records lie.
pub const DIRECTORY: &str = "retired";
/// The largest record, in bytes.
pub const RECORD_MAX_BYTES: u64 = 64 << 10;

const MAGIC: &str = "HFL-RETIRED 1";

/// A version that was retired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retired {
    /// The image.
    pub image: Name,
    /// When its head stopped naming the version.
    pub marked: Timestamp,
    /// The version, as the head had it.
    pub row: VersionRow,
    /// The files that were this version's alone.
    pub files: Vec<FileRow>,
}

impl Retired {
    /// Where its record lies.
    pub fn path(&self) -> Result<RepoPath, Error> {
        let index = self.row.index_path(&self.image);
        let name = index.as_str().trim_start_matches("index/").trim_end_matches(".idx");
        format!("{DIRECTORY}/{name}").parse().map_err(|e| Error::local(format!("{name}: {e}")))
    }

    /// Its record.
    pub fn object(&self) -> Result<Object, Error> {
        let row = &self.row;
        let mut text = format!("{MAGIC}\nimage {}\nmarked {}\n", self.image, self.marked);
        let (bytes, digest) = (row.index_bytes, row.index_sha256);
        let wrote =
            writeln!(text, "version {} {bytes} {digest} {} {}", row.version, row.created, row.size).and_then(|()| {
                self.files.iter().try_for_each(|f| writeln!(text, "file {} {} {}", f.path, f.bytes, f.sha256))
            });
        wrote.map_err(|e| Error::local(e.to_string()))?;
        Ok(Object::new(self.path()?, text))
    }

    /// Reads a record; `None` for anything that is not one.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(text).ok()?.lines();
        lines.next().filter(|line| *line == MAGIC)?;
        let image = lines.next()?.strip_prefix("image ")?.parse().ok()?;
        let marked = lines.next()?.strip_prefix("marked ")?.parse().ok()?;
        let row = parse_version(lines.next()?.strip_prefix("version ")?)?;
        let files = lines.map(|line| parse_file(line.strip_prefix("file ")?)).collect::<Option<_>>()?;
        Some(Self { image, marked, row, files })
    }
}

fn parse_version(text: &str) -> Option<VersionRow> {
    let mut words = text.split(' ');
    let mut word = || words.next();
    let row = VersionRow {
        version: word()?.parse().ok()?,
        index_bytes: word()?.parse().ok()?,
        index_sha256: word()?.parse().ok()?,
        created: word()?.parse().ok()?,
        size: word()?.parse().ok()?,
        new_bytes: 0,
        label: None,
    };
    (row.index_bytes <= crate::index::FILE_MAX_BYTES && words.next().is_none()).then_some(row)
}

fn parse_file(text: &str) -> Option<FileRow> {
    let mut words = text.split(' ');
    let (path, bytes, sha256) = (words.next()?, words.next()?, words.next()?);
    let row = FileRow { path: path.parse().ok()?, bytes: bytes.parse().ok()?, sha256: sha256.parse().ok()? };
    words.next().is_none().then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;

    #[test]
    fn a_record_reads_as_it_was_written() {
        let row = VersionRow {
            version: "41".parse().expect("a version"),
            index_bytes: 4_098_113,
            index_sha256: Sha256::of(b"index"),
            created: Timestamp::from_unix(1_790_000_000),
            size: 8_589_934_592,
            new_bytes: 0,
            label: None,
        };
        let path = "boot/debian-ps3/41/vmlinuz-77aa1b2c3d4e".parse().expect("a path");
        let file = FileRow { path, bytes: 14_186_432, sha256: Sha256::of(b"kernel") };
        let marked = Timestamp::from_unix(1_790_086_400);
        let retired = Retired { image: "debian-ps3".parse().expect("a name"), marked, row, files: vec![file] };
        let object = retired.object().expect("a record");
        assert!(object.path.as_str().starts_with("retired/debian-ps3/41-"), "{}", object.path);
        assert_eq!(Retired::parse(&object.bytes), Some(retired));
        for bad in ["", "HFL-RETIRED 2\n", "<html>", "HFL-RETIRED 1\nimage a\nmarked x\n"] {
            assert_eq!(Retired::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
