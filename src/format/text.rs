//! Reading canonical text: one valid encoding, every limit checked before allocation, and every error with its line and
//! column.
//!
//! Not a general parser. Lines end with LF, fields are separated by one space, numbers are decimal without leading
//! zeros, digests are lower-case hexadecimal. Of alternative encodings of a value all but one are rejected.

use std::fmt::{self, Write as _};

use crate::format::digest::{self, Sha256};

/// An error in a text, with its position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct FormatError {
    /// The line, counted from 1; 0 for the whole file.
    pub line: u64,
    /// The column, counted from 1, if known.
    pub column: Option<usize>,
    /// The reason, as the end of a sentence.
    pub why: String,
}

impl FormatError {
    /// An error of the whole file.
    pub fn whole(why: impl Into<String>) -> Self {
        Self { line: 0, column: None, why: why.into() }
    }

    /// An error somewhere in `line`.
    pub fn line(line: u64, why: impl Into<String>) -> Self {
        Self { line, column: None, why: why.into() }
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, _) => {}
            (line, None) => write!(f, "line {line}: ")?,
            (line, Some(column)) => write!(f, "line {line}, column {column}: ")?,
        }
        // The reason may quote an untrusted file: escape control characters, so that none reaches a terminal.
        self.why.chars().try_for_each(|c| match c.is_control() {
            true => write!(f, "{}", c.escape_default()),
            false => f.write_char(c),
        })
    }
}

/// The unread lines of a file.
pub(crate) struct Lines<'a> {
    rest: &'a [u8],
    number: u64,
    max_line_bytes: usize,
}

impl<'a> Lines<'a> {
    /// Checks the first line, `magic 1`, and returns the lines after it.
    pub fn open(file: &'a [u8], magic: &str, max_line_bytes: usize) -> Result<Self, FormatError> {
        refuse_other_things(file, magic)?;
        let mut lines = Self { rest: file, number: 0, max_line_bytes };
        let mut first = lines.next()?;
        first.keyword(magic)?;
        let revision = first.number("the format's revision", 1, u64::MAX)?;
        first.end()?;
        if revision == 1 {
            return Ok(lines);
        }
        Err(FormatError::line(1, format!("format {revision}, this hfl reads 1; update hfl")))
    }

    /// The next line, without its LF.
    pub fn next(&mut self) -> Result<Line<'a>, FormatError> {
        self.number += 1;
        if self.rest.is_empty() {
            return Err(FormatError::line(self.number, "the file ends here, too early"));
        }
        let window = &self.rest[..self.rest.len().min(self.max_line_bytes + 1)];
        let Some(length) = memchr::memchr(b'\n', window) else {
            let why = if window.len() > self.max_line_bytes {
                format!("longer than {} bytes", self.max_line_bytes)
            } else {
                "no line feed at its end".to_owned()
            };
            return Err(FormatError::line(self.number, why));
        };
        let bytes = &self.rest[..length];
        if bytes.last() == Some(&b'\r') {
            return Err(FormatError { line: self.number, column: Some(length), why: "carriage return".into() });
        }
        self.rest = &self.rest[length + 1..];
        Ok(Line { bytes, at: 0, number: self.number })
    }

    /// The bytes after the lines read so far.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The number of the last line read.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Expects a line that is exactly `--`.
    pub fn separator(&mut self, after: &str) -> Result<(), FormatError> {
        let line = self.next()?;
        if line.bytes == b"--" {
            return Ok(());
        }
        Err(FormatError::line(self.number, format!("expected `--` after {after}")))
    }

    /// Expects the header line `key ...` and returns it with the value unread.
    pub fn header(&mut self, key: &str) -> Result<Line<'a>, FormatError> {
        let mut line = self.next()?;
        line.keyword(key)?;
        Ok(line)
    }

    /// Expects the header line `key COUNT`, with at most `max` rows of at least `row_min_bytes` each. The file's length
    /// bounds the count before any allocation.
    pub fn count(&mut self, key: &str, max: u64, row_min_bytes: u64) -> Result<usize, FormatError> {
        let mut line = self.header(key)?;
        let count = line.number(key, 0, max)?;
        line.end()?;
        if count * row_min_bytes > self.rest.len() as u64 {
            return Err(line.error(format!("{count} {key} announced, the file is too short for them")));
        }
        Ok(count as usize)
    }

    /// Expects the last line of `file`, `end DIGEST`: the SHA-256 of everything above it.
    pub fn end(&mut self, file: &[u8]) -> Result<(), FormatError> {
        let above = &file[..file.len() - self.rest.len()];
        let mut end = self.header("end")?;
        let digest = Sha256(end.hex("a SHA-256")?);
        end.end()?;
        if !self.rest.is_empty() {
            return Err(FormatError::line(self.number + 1, "something follows the `end` line"));
        }
        if Sha256::of(above) != digest {
            return Err(FormatError::line(self.number, "checksum mismatch: the file is damaged"));
        }
        Ok(())
    }

    /// True if the next line begins with `key` and a space.
    pub fn peek(&self, key: &str) -> bool {
        self.rest.strip_prefix(key.as_bytes()).is_some_and(|r| r.first() == Some(&b' '))
    }
}

/// Rejects the usual wrong files with a specific message.
fn refuse_other_things(file: &[u8], magic: &str) -> Result<(), FormatError> {
    if file.is_empty() {
        return Err(FormatError::whole(format!("empty, expected {magic}")));
    }
    let start = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let start = start[..start.len().min(256)].trim_ascii_start();
    if start.first() == Some(&b'<') {
        return Err(FormatError::line(1, "looks like HTML (captive portal or 404 page?)"));
    }
    if !file.starts_with(magic.as_bytes()) {
        return Err(FormatError::line(1, format!("expected {magic}")));
    }
    Ok(())
}

/// Appends a number in the form that [`Line::number`] reads.
pub(crate) fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.extend_from_slice(&digits[first..]);
        }
    }
}

/// One line and the read position in it.
pub(crate) struct Line<'a> {
    bytes: &'a [u8],
    at: usize,
    number: u64,
}

impl<'a> Line<'a> {
    /// An error at the current position.
    pub fn error(&self, why: impl Into<String>) -> FormatError {
        FormatError { line: self.number, column: Some(self.at + 1), why: why.into() }
    }

    /// The unread bytes of the line.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// The rest as UTF-8 text.
    pub fn text(&self) -> Result<&'a str, FormatError> {
        std::str::from_utf8(self.rest()).map_err(|e| {
            let column = Some(self.at + e.valid_up_to() + 1);
            FormatError { line: self.number, column, why: "not UTF-8".into() }
        })
    }

    /// The rest, parsed with the type's `FromStr`.
    pub fn parse<T: std::str::FromStr<Err: fmt::Display>>(&self) -> Result<T, FormatError> {
        self.text()?.parse().map_err(|e: T::Err| self.error(e.to_string()))
    }

    /// The next field, parsed with the type's `FromStr`.
    pub fn parse_field<T: std::str::FromStr<Err: fmt::Display>>(&mut self) -> Result<T, FormatError> {
        let start = self.at;
        let field = self.field();
        let at_start = |why: String| FormatError { line: self.number, column: Some(start + 1), why };
        let text = std::str::from_utf8(field).map_err(|_| at_start("not UTF-8".into()))?;
        text.parse().map_err(|e: T::Err| at_start(e.to_string()))
    }

    /// The bytes up to the next space or the end; does not consume the space.
    fn field(&mut self) -> &'a [u8] {
        let rest = self.rest();
        let length = rest.iter().position(|&b| b == b' ').unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// Expects `word` and one space.
    pub fn keyword(&mut self, word: &str) -> Result<(), FormatError> {
        let found = self.field();
        if found == word.as_bytes() {
            return self.space();
        }
        self.at = 0;
        let found = String::from_utf8_lossy(&found[..found.len().min(40)]).into_owned();
        Err(self.error(format!("expected `{word}`, found `{found}`")))
    }

    /// Expects one space.
    pub fn space(&mut self) -> Result<(), FormatError> {
        if self.bytes.get(self.at) != Some(&b' ') {
            return Err(self.error("expected a space"));
        }
        self.at += 1;
        Ok(())
    }

    /// Skips the unread bytes of the line.
    pub fn skip_rest(&mut self) {
        self.at = self.bytes.len();
    }

    /// Expects the end of the line.
    pub fn end(&self) -> Result<(), FormatError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.error("expected the end of the line")) }
    }

    /// A decimal number without leading zeros, from `min` to `max`.
    pub fn number(&mut self, what: &str, min: u64, max: u64) -> Result<u64, FormatError> {
        let start = self.at;
        let mut value: u64 = 0;
        while let Some(digit) = self.bytes.get(self.at).filter(|b| b.is_ascii_digit()) {
            value = value.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        let digits = &self.bytes[start..self.at];
        let why = if digits.is_empty() {
            format!("expected {what}, a decimal number")
        } else if digits.len() > 1 && digits[0] == b'0' {
            format!("{what} has leading zeros")
        } else if value < min || value > max {
            format!("{what} is outside the limits, {min} to {max}")
        } else {
            return Ok(value);
        };
        self.at = start;
        Err(self.error(why))
    }

    /// Exactly `2 * N` lower-case hexadecimal digits.
    pub fn hex<const N: usize>(&mut self, what: &str) -> Result<[u8; N], FormatError> {
        let start = self.at;
        let rest = self.rest();
        let whole = rest.get(..2 * N).filter(|_| matches!(rest.get(2 * N), None | Some(b' ')));
        if let Some(Ok(bytes)) = whole.map(digest::from_hex) {
            self.at += 2 * N;
            return Ok(bytes);
        }
        let field = self.field();
        digest::from_hex(field).map_err(|offset| {
            self.at = start + offset;
            let found = field.len();
            self.error(format!("expected {what}, {} lower-case hexadecimal digits; found {found} characters", 2 * N))
        })
    }
}
