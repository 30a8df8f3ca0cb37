//! Public keys and signatures: minisign's, in its prehashed form only.
//!
//! Checking is all that happens here; signing is in [`crate::format::signing`], which clients do not contain.

use std::fmt;
use std::str::FromStr;

use minisign_verify::Error as Minisign;

/// Longest text of a signature, in bytes.
pub const SIGNATURE_MAX_BYTES: usize = 2048;

/// What the first line of a key's or a signature's file begins with.
const COMMENT: &str = "untrusted comment: ";

/// What the first line of a signature says. It is signed by nobody, so there is one text for it: else anybody on the way could
/// have his own handed on to all mirrors.
pub(crate) const SIGNATURE_COMMENT: &str = "signature of hfl";

/// A minisign public key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: minisign_verify::PublicKey,
    line: String,
}

impl PublicKey {
    /// Checks that `signature` is this key's over `bytes`.
    ///
    /// `expected` is the trusted comment that hfl writes for such a file: it only makes the message of a failure say
    /// more.
    ///
    /// # Errors
    /// One distinct message for each way in which a signature can be wrong.
    pub fn verify(&self, bytes: &[u8], signature: &Signature, expected: &str) -> Result<(), SignatureError> {
        self.key.verify(bytes, &signature.parsed, false).map_err(|e| match e {
            Minisign::UnexpectedKeyId => SignatureError::OtherKey,
            Minisign::UnexpectedAlgorithm | Minisign::UnsupportedLegacyMode => SignatureError::Legacy,
            _ => signature.mismatch(expected),
        })
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// Reads the one line of base64, or the whole text of a `.pub` file.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut lines = text.trim().lines();
        let line = match (lines.next(), lines.next(), lines.next()) {
            (Some(line), None, _) => line,
            (Some(comment), Some(line), None) if comment.starts_with(COMMENT) => line.trim(),
            _ => return Err(KeyError),
        };
        let key = minisign_verify::PublicKey::from_base64(line).map_err(|_| KeyError)?;
        Ok(Self { key, line: line.to_owned() })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

/// A text that is no public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a minisign public key (expected 56 characters of base64 that begin with RW, or a .pub file)")]
pub struct KeyError;

/// The text of a minisign signature: four lines.
#[derive(Clone)]
pub struct Signature {
    parsed: minisign_verify::Signature,
    text: String,
}

impl Signature {
    /// The four lines, each with its LF.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What its maker says is signed; it counts once the signature was checked.
    pub fn trusted_comment(&self) -> &str {
        self.parsed.trusted_comment()
    }

    fn mismatch(&self, expected: &str) -> SignatureError {
        let comment = self.parsed.trusted_comment();
        if comment == expected {
            SignatureError::Altered
        } else if comment.starts_with("hfl ") {
            SignatureError::OtherFile { signed: comment.to_owned(), expected: expected.to_owned() }
        } else {
            SignatureError::Comment(comment.to_owned())
        }
    }
}

impl FromStr for Signature {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        if text.len() > SIGNATURE_MAX_BYTES || text.chars().any(|c| c.is_control() && c != '\n') {
            return Err(SignatureError::Form);
        }
        if !text.ends_with('\n') || text.lines().count() != 4 {
            return Err(SignatureError::Lines(text.lines().count()));
        }
        if text.lines().next().and_then(|line| line.strip_prefix(COMMENT)) != Some(SIGNATURE_COMMENT) {
            return Err(SignatureError::Form);
        }
        let parsed = minisign_verify::Signature::decode(text).map_err(|e| match e {
            Minisign::UnsupportedAlgorithm => SignatureError::Algorithm,
            _ => SignatureError::Form,
        })?;
        Ok(Self { parsed, text: text.to_owned() })
    }
}

impl PartialEq for Signature {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Signature {}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a signature does not prove anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Made with another key.
    #[error("signed with another key than the one given")]
    OtherKey,
    /// The old form without prehashing.
    #[error("a signature in minisign's legacy form (Ed); only the prehashed form (ED) is accepted")]
    Legacy,
    /// An algorithm minisign does not know.
    #[error("an unknown signature algorithm")]
    Algorithm,
    /// Broken base64 or a broken comment line.
    #[error("not a minisign signature (bad base64 or comment line)")]
    Form,
    /// Too few or too many lines.
    #[error("a minisign signature has 4 lines, found {0}")]
    Lines(usize),
    /// The right signature for other bytes.
    #[error("the bytes are not the ones that were signed")]
    Altered,
    /// A good signature of another file, or one whose comment was changed into another's.
    #[error("this is the signature of `{signed}`, expected that of `{expected}`")]
    OtherFile {
        /// What its comment says.
        signed: String,
        /// What was expected.
        expected: String,
    },
    /// A trusted comment that is not what hfl wrote.
    #[error("the bytes or the trusted comment (`{0}`) are not the ones that were signed")]
    Comment(String),
}
