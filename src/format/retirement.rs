//! The record of a version dropped from its head: the version's own files, and when it was retired.
//!
//! `retired/NAME/VERSION-DIGITS` on every mirror, canonical text, signed like a head:
//!
//! ```text
//! HFL-RETIRED 1
//! image debian-ps3
//! marked 2026-11-22T19:50:00Z
//! version 41 4098113 40c1...(64) 2026-11-21T19:50:02Z 8589934592
//! file boot/debian-ps3/41/vmlinuz-77aa00112233 14186432 77aa...(64)
//! --
//! a minisign signature of every byte above the line `--`, or the line `unsigned`
//! ```
//!
//! The version's line has its number, the size and SHA-256 of its index, its time of publication and the image size. A
//! record can name only files published for this version of this image ([`RepoPath::belongs_to`]).

use std::fmt::Write as _;

use crate::format::comment;
use crate::format::head::{FileRow, HeadSignature, NotTrusted, Trust, VersionRow, file_row, parse_seal, version_start};
use crate::format::layout::{Kind, RepoPath};
use crate::format::name::Name;
use crate::format::text::{FormatError, Lines};
use crate::format::time::Timestamp;
use crate::weaken::{self, Weakness};

/// Maximum size of a record, in bytes.
pub const FILE_MAX_BYTES: u64 = 64 << 10;
/// Maximum length of a line, in bytes: a path, a number and a digest.
const LINE_MAX_BYTES: usize = 512;
const MAGIC: &str = "HFL-RETIRED";

/// A retired version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retirement {
    /// Image name.
    pub image: Name,
    /// When the version was dropped from the head.
    pub marked: Timestamp,
    /// The version's row in the head, without its label and the bytes it added to the repository.
    pub row: VersionRow,
    /// Files that belong to this version only.
    pub files: Vec<FileRow>,
}

impl Retirement {
    /// The path of the record.
    pub fn path(&self) -> RepoPath {
        RepoPath::retirement(&self.image, self.row.version, &self.row.index_sha256)
    }

    /// The paths of its index and its files, each with its signature.
    #[cfg(feature = "publish")]
    pub fn files_and_signatures(&self) -> impl Iterator<Item = RepoPath> {
        let files = self.files.iter().map(|file| file.path.clone());
        files.chain([self.row.index_path(&self.image)]).flat_map(|path| [path.signature(), path])
    }

    /// The trusted comment of the record's signature.
    pub fn trusted_comment(&self) -> String {
        comment::retirement(&self.image, self.row.version, self.marked)
    }

    /// The bytes that are signed.
    pub fn body(&self) -> Vec<u8> {
        let row = &self.row;
        let mut out = format!("{MAGIC} 1\nimage {}\nmarked {}\n", self.image, self.marked);
        let (bytes, digest) = (row.index_bytes, row.index_sha256);
        let mut written = writeln!(out, "version {} {bytes} {digest} {} {}", row.version, row.created, row.size);
        for file in &self.files {
            written = written.and_then(|()| writeln!(out, "file {} {} {}", file.path, file.bytes, file.sha256));
        }
        debug_assert!(written.is_ok());
        out.into_bytes()
    }

    /// The record file: the body and the signature.
    pub fn to_bytes(&self, seal: &HeadSignature) -> Vec<u8> {
        let mut out = self.body();
        out.extend_from_slice(b"--\n");
        seal.write(&mut out);
        out
    }

    /// Reads the record at `path` and verifies its signature.
    ///
    /// # Errors
    /// Anything but the record of this path with a signature that `trust` accepts.
    pub fn read(file: &[u8], path: &RepoPath, trust: &Trust) -> Result<Self, BadRecord> {
        let (retirement, seal) = Self::parse(file)?;
        if weaken::is(Weakness::Records) {
            return Ok(retirement);
        }
        if retirement.path() != *path {
            return Err(BadRecord::Elsewhere(retirement.path()));
        }
        seal.verify(trust, &retirement.body(), &retirement.trusted_comment())?;
        Ok(retirement)
    }

    fn parse(file: &[u8]) -> Result<(Self, HeadSignature), FormatError> {
        if file.len() as u64 > FILE_MAX_BYTES {
            return Err(FormatError::whole(format!("{} bytes, at most {FILE_MAX_BYTES} are allowed", file.len())));
        }
        let mut lines = Lines::open(file, MAGIC, LINE_MAX_BYTES)?;
        let image: Name = lines.header("image")?.parse()?;
        let marked = lines.header("marked")?.parse()?;
        let mut line = lines.header("version")?;
        let row = version_start(&mut line)?;
        line.end()?;
        let mut files: Vec<FileRow> = Vec::new();
        while lines.peek("file") {
            let mut line = lines.header("file")?;
            let file = file_row(&mut line)?;
            let is_own = file.path.kind() == Kind::File && file.path.belongs_to(&image, row.version);
            if !is_own && !weaken::is(Weakness::Records) {
                return Err(line.error(format!("{} does not belong to {image} version {}", file.path, row.version)));
            }
            if files.last().is_some_and(|last| last.path >= file.path) {
                return Err(line.error("the files must be sorted by path, each once"));
            }
            files.push(file);
        }
        lines.separator("the files")?;
        let seal = parse_seal(&mut lines)?;
        Ok((Self { image, marked, row, files }, seal))
    }
}

/// Why a file is not accepted as the record of a retired version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// The text is malformed.
    #[error(transparent)]
    Form(#[from] FormatError),
    /// The record of another version, or at the wrong path.
    #[error("this is the record that belongs at {0}")]
    Elsewhere(RepoPath),
    /// The signature is missing or fails to verify.
    #[error(transparent)]
    HeadSignature(#[from] NotTrusted),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::digest::Sha256;

    fn record(file: &str) -> Retirement {
        let row = VersionRow {
            version: "41".parse().expect("a version"),
            index_bytes: 4_098_113,
            index_sha256: Sha256::of(b"index"),
            created: Timestamp::from_unix(1_790_000_000),
            size: 8_589_934_592,
            new_bytes: 0,
            label: None,
        };
        let file = FileRow { path: file.parse().expect("a path"), bytes: 14_186_432, sha256: Sha256::of(b"kernel") };
        let marked = Timestamp::from_unix(1_790_086_400);
        Retirement { image: "debian-ps3".parse().expect("a name"), marked, row, files: vec![file] }
    }

    #[test]
    fn a_record_reads_as_it_was_written() {
        let retirement = record("boot/debian-ps3/41/vmlinuz");
        let (path, file) = (retirement.path(), retirement.to_bytes(&HeadSignature::Unsigned));
        assert!(path.as_str().starts_with("retired/debian-ps3/41-"), "{path}");
        assert_eq!(Retirement::read(&file, &path, &Trust::Anyone), Ok(retirement));
        let elsewhere = "retired/debian-ps3/41-000000000000".parse().expect("a path");
        assert!(matches!(Retirement::read(&file, &elsewhere, &Trust::Anyone), Err(BadRecord::Elsewhere(_))));
        for bad in ["", "HFL-RETIRED 2\n", "<html>", "HFL-RETIRED 1\nimage a\nmarked x\n"] {
            assert!(Retirement::read(bad.as_bytes(), &path, &Trust::Anyone).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_record_names_nothing_but_what_its_version_owned() {
        for other in [
            "images",
            "debian-ps3.head",
            "index.html",
            "publish.lock",
            "blocks/1f/1f9ba5c2dd438fded6fe004dc498c6a19c355e23",
            "boot/debian-ps3/42/vmlinuz",
            "boot/debian-ps3/boot.ipxe",
            "boot/other/41/vmlinuz",
            "client/hfl-mount-1.0.0-x86_64-linux",
        ] {
            let retirement = record(other);
            let read =
                Retirement::read(&retirement.to_bytes(&HeadSignature::Unsigned), &retirement.path(), &Trust::Anyone);
            assert!(matches!(read, Err(BadRecord::Form(_))), "{other}: {read:?}");
        }
    }
}
