//! Reading a head.

use super::{FileRow, HEAD_MAX_BYTES, Head, HeadSignature, SignedHead, VersionRow};
use crate::format::digest::Sha256;
use crate::format::index;
use crate::format::name::Version;
use crate::format::text::{FormatError, Line, Lines};

/// Maximum length of a line, in bytes: ample for a URL with its key, or a row with a label of 64 characters.
const LINE_MAX_BYTES: usize = 2048;
/// Minimum length of a row, with its LF: `1 1 <64 digits> 2026-11-22T19:50:00Z 1 0 -`.
const ROW_MIN_BYTES: u64 = 96;

impl SignedHead {
    /// Reads a head file; accepts only what [`SignedHead::to_bytes`] would write.
    ///
    /// # Errors
    /// The first invalid line, with the reason.
    pub fn parse(file: &[u8]) -> Result<Self, FormatError> {
        if file.len() as u64 > HEAD_MAX_BYTES {
            return Err(FormatError::whole(format!("{} bytes, at most {HEAD_MAX_BYTES} are allowed", file.len())));
        }
        let mut lines = Lines::open(file, "HFL-HEAD", LINE_MAX_BYTES)?;
        let image = lines.header("image")?.parse()?;
        let created = lines.header("created")?.parse()?;
        let line = lines.header("expires")?;
        let expires = if line.rest() == b"-" { None } else { Some(line.parse()?) };
        let mirrors = repeated(&mut lines, "mirror", |line| line.parse())?;
        let files = repeated(&mut lines, "file", file_row)?;
        let notes = repeated(&mut lines, "note", |line| line.parse())?;
        let versions = versions(&mut lines)?;
        lines.separator("the versions")?;
        let head = Head { image, created, expires, mirrors, files, notes, versions };
        let seal = seal(&mut lines)?;
        Self::new(head, seal).map_err(|e| FormatError::line(e.line, e.why))
    }
}

fn repeated<T>(
    lines: &mut Lines<'_>,
    key: &str,
    value: impl Fn(&mut Line<'_>) -> Result<T, FormatError>,
) -> Result<Vec<T>, FormatError> {
    let mut values = Vec::new();
    while lines.peek(key) {
        values.push(value(&mut lines.header(key)?)?);
    }
    Ok(values)
}

/// A file row: path, size in bytes, SHA-256.
pub(crate) fn file_row(line: &mut Line<'_>) -> Result<FileRow, FormatError> {
    let path = line.parse_field()?;
    line.space()?;
    let bytes = line.number("the file's bytes", 0, index::IMAGE_MAX_BYTES)?;
    line.space()?;
    let sha256 = Sha256(line.hex("a SHA-256")?);
    line.end()?;
    Ok(FileRow { path, bytes, sha256 })
}

fn versions(lines: &mut Lines<'_>) -> Result<Vec<VersionRow>, FormatError> {
    let mut line = lines.header("versions")?;
    let count = line.number("the number of versions", 1, HEAD_MAX_BYTES / ROW_MIN_BYTES)?;
    line.end()?;
    lines.separator("the header")?;
    (0..count).map(|_| version_row(&mut lines.next()?)).collect()
}

fn version_row(line: &mut Line<'_>) -> Result<VersionRow, FormatError> {
    let row = version_start(line)?;
    line.space()?;
    let new_bytes = line.number("the bytes added", 0, index::IMAGE_MAX_BYTES)?;
    line.space()?;
    let label = if line.rest() == b"-" { None } else { Some(line.parse()?) };
    Ok(VersionRow { new_bytes, label, ..row })
}

/// A version row up to the image size: number, size and SHA-256 of its index, time, size of the image.
pub(crate) fn version_start(line: &mut Line<'_>) -> Result<VersionRow, FormatError> {
    let version: Version = line.parse_field()?;
    line.space()?;
    let index_bytes = line.number("the bytes of the index", 1, index::FILE_MAX_BYTES)?;
    line.space()?;
    let index_sha256 = Sha256(line.hex("the SHA-256 of the index")?);
    line.space()?;
    let created = line.parse_field()?;
    line.space()?;
    let size = line.number("the image's size", 1, index::IMAGE_MAX_BYTES)?;
    Ok(VersionRow { version, index_bytes, index_sha256, created, size, new_bytes: 0, label: None })
}

/// The signature at the end of a text, or `unsigned`.
pub(crate) fn seal(lines: &mut Lines<'_>) -> Result<HeadSignature, FormatError> {
    let first = lines.number() + 1;
    if lines.rest() == b"unsigned\n" {
        return Ok(HeadSignature::Unsigned);
    }
    if lines.rest().is_empty() {
        return Err(FormatError::line(first, "the file ends here, expected a minisign signature or `unsigned`"));
    }
    let text = std::str::from_utf8(lines.rest()).map_err(|_| FormatError::line(first, "the signature is not UTF-8"))?;
    let signature = text.parse().map_err(|e| FormatError::line(first, format!("{e}")))?;
    Ok(HeadSignature::Signed(Box::new(signature)))
}
