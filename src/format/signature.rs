//! Public keys and signatures: minisign, in its prehashed form only.
//!
//! Only verifies; signing is in [`crate::format::signing`], which clients do not contain.

use std::fmt;
use std::str::FromStr;

use minisign_verify::Error as Minisign;

/// Maximum size of a signature text, in bytes.
pub const SIGNATURE_MAX_BYTES: usize = 2048;

/// Start of the first line of a key or signature file.
const COMMENT: &str = "untrusted comment: ";

/// The comment in the first line of a signature. It is not covered by the signature, so only this text is accepted:
/// otherwise text inserted in transit could spread to all mirrors.
pub(crate) const SIGNATURE_COMMENT: &str = "signature of hfl";

/// A minisign public key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: minisign_verify::PublicKey,
    line: String,
}

impl PublicKey {
    /// Verifies that `signature` was made with this key over `bytes`.
    ///
    /// `expected` is the trusted comment that hfl writes for such a file; it only makes the error message more precise.
    ///
    /// # Errors
    /// A distinct message for each way in which a signature can fail.
    pub fn verify(&self, bytes: &[u8], signature: &Signature, expected: &str) -> Result<(), SignatureError> {
        self.key.verify(bytes, &signature.parsed, false).map_err(|e| match e {
            Minisign::UnexpectedKeyId => SignatureError::OtherKey,
            Minisign::UnexpectedAlgorithm | Minisign::UnsupportedLegacyMode => SignatureError::Legacy,
            _ => signature.mismatch(expected),
        })
    }
}

#[cfg(feature = "publish")]
impl PublicKey {
    /// Whether this key made the trusted comment of `signature`, whatever the signed file is: minisign's second signature
    /// covers the first one and the comment. It proves what the comment says even if the file is lost or damaged.
    pub fn made_comment(&self, signature: &Signature) -> bool {
        use base64::Engine as _;
        use ring::signature::{ED25519, UnparsedPublicKey};
        let decoded = |line: &str| base64::engine::general_purpose::STANDARD.decode(line).unwrap_or_default();
        let mut lines = signature.text.lines().skip(1);
        let (own, comment, global) = (lines.next(), signature.trusted_comment(), lines.nth(1));
        // Both begin with two bytes for the algorithm and eight for the number of the key.
        let (key, own) = (decoded(&self.line), decoded(own.unwrap_or_default()));
        let (Some(number), Some(point)) = (key.get(2..10), key.get(10..42)) else { return false };
        let Some(first) = own.get(10..74).filter(|_| own.get(2..10) == Some(number)) else { return false };
        let signed = [first, comment.as_bytes()].concat();
        UnparsedPublicKey::new(&ED25519, point).verify(&signed, &decoded(global.unwrap_or_default())).is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// Reads a single line of base64, or the whole text of a `.pub` file.
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

/// The error for a text that is not a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a minisign public key (expected 56 characters of base64 that begin with RW, or a .pub file)")]
pub struct KeyError;

/// A minisign signature: four lines of text.
#[derive(Clone)]
pub struct Signature {
    parsed: minisign_verify::Signature,
    text: String,
}

impl Signature {
    /// The signature in a file; `None` if it has something else.
    pub fn of_file(file: &[u8]) -> Option<Self> {
        std::str::from_utf8(file).ok()?.parse().ok()
    }

    /// The four lines, each with its LF.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signer's description of what is signed; trusted only once the signature is verified.
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

/// Why a signature is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Signed with another key.
    #[error("signed with another key than the one given")]
    OtherKey,
    /// The legacy form without prehashing.
    #[error("a signature in minisign's legacy form (Ed); only the prehashed form (ED) is accepted")]
    Legacy,
    /// An algorithm unknown to minisign.
    #[error("an unknown signature algorithm")]
    Algorithm,
    /// Invalid base64 or an invalid comment line.
    #[error("not a minisign signature (bad base64 or comment line)")]
    Form,
    /// Too few or too many lines.
    #[error("a minisign signature has 4 lines, found {0}")]
    Lines(usize),
    /// The expected trusted comment, but other bytes.
    #[error("the bytes are not the ones that were signed")]
    Altered,
    /// The trusted comment of another file: its signature, or an altered comment.
    #[error("this is the signature of `{signed}`, expected that of `{expected}`")]
    OtherFile {
        /// The comment found.
        signed: String,
        /// The comment expected.
        expected: String,
    },
    /// A trusted comment not written by hfl.
    #[error("the bytes or the trusted comment (`{0}`) are not the ones that were signed")]
    Comment(String),
}
