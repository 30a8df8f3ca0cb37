//! Writing a head.

use std::fmt::Write as _;

use super::{Head, HeadSignature, SignedHead};

impl SignedHead {
    /// The canonical text of this head.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.body();
        out.extend_from_slice(b"--\n");
        self.seal.write(&mut out);
        out
    }
}

impl HeadSignature {
    /// Appends its text: four lines, or `unsigned`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Unsigned => out.extend_from_slice(b"unsigned\n"),
            Self::Signed(signature) => out.extend_from_slice(signature.text().as_bytes()),
        }
    }
}

/// The signed bytes: all before the second separator.
pub(super) fn body(head: &Head) -> Vec<u8> {
    let mut out = String::new();
    let written = write_body(head, &mut out);
    debug_assert!(written.is_ok());
    out.into_bytes()
}

impl Head {
    /// The bytes that are signed.
    pub fn body(&self) -> Vec<u8> {
        body(self)
    }
}

fn write_body(head: &Head, out: &mut String) -> std::fmt::Result {
    let expires = head.expires.map_or_else(|| "-".to_owned(), |t| t.to_string());
    writeln!(out, "HFL-HEAD 1\nimage {}\ncreated {}\nexpires {expires}", head.image, head.created)?;
    for mirror in &head.mirrors {
        writeln!(out, "mirror {mirror}")?;
    }
    for file in &head.files {
        writeln!(out, "file {} {} {}", file.path, file.bytes, file.sha256)?;
    }
    for note in &head.notes {
        writeln!(out, "note {note}")?;
    }
    writeln!(out, "versions {}\n--", head.versions.len())?;
    for row in &head.versions {
        let label = row.label.as_ref().map_or("-", |l| l.as_str());
        write!(out, "{} {} {} ", row.version, row.index_bytes, row.index_sha256)?;
        writeln!(out, "{} {} {} {label}", row.created, row.size, row.new_bytes)?;
    }
    Ok(())
}
