//! Signing with minisign keys.
//!
//! Does not read or write files; `publish::keyring` does. A key's text never appears in a message.

use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minisign::{KeyPair, SecretKeyBox};

use crate::format::signature::{PublicKey, SIGNATURE_COMMENT, Signature};

/// A minisign secret key, ready to sign.
pub struct SecretKey {
    secret: minisign::SecretKey,
    public: PublicKey,
}

impl SecretKey {
    /// Generates a key without a password; returns it and the text of its key file.
    ///
    /// # Errors
    /// When the system has no randomness available.
    pub fn generate() -> Result<(Self, String), SignError> {
        let pair = KeyPair::generate_unencrypted_keypair().map_err(|e| SignError::Generate(e.to_string()))?;
        let text =
            pair.sk.to_box(Some("hfl secret key, no password")).map_err(|e| SignError::Generate(e.to_string()))?;
        Ok((Self::new(pair.sk)?, text.into_string()))
    }

    /// Reads the text of a minisign secret key file, or only its line of base64.
    ///
    /// # Errors
    /// For anything else, and for an encrypted key without its password.
    pub fn parse(text: &str, password: Option<String>) -> Result<Self, SignError> {
        let (line, key) = key_line(text.trim())?;
        if key[KDF] == *b"Sc" {
            let password = password.ok_or(SignError::Encrypted)?;
            return Self::new(boxed(&line)?.into_secret_key(Some(password)).map_err(|_| SignError::Password)?);
        }
        // minisign 0.11 writes no checksum into a key without a password.
        if key[CHECKSUM_AT..].iter().any(|byte| *byte != 0) {
            return Self::new(boxed(&line)?.into_unencrypted_secret_key().map_err(|_| SignError::Damaged)?);
        }
        let key = Self::new(minisign::SecretKey::from_bytes(&key).map_err(|_| SignError::Damaged)?)?;
        // In place of the checksum: the halves of a damaged key do not belong together.
        key.sign(b"", "").map_err(|_| SignError::Damaged)?;
        Ok(key)
    }

    fn new(secret: minisign::SecretKey) -> Result<Self, SignError> {
        let public = minisign::PublicKey::from_secret_key(&secret).map_err(|_| SignError::Form)?;
        let public = public.to_base64().parse().map_err(|_| SignError::Form)?;
        Ok(Self { secret, public })
    }

    /// The public key that verifies this key's signatures.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The text of the `.pub` file, two lines.
    pub fn public_file(&self) -> String {
        format!("untrusted comment: minisign public key of an hfl image\n{}\n", self.public)
    }

    /// Signs `bytes`, prehashed, with a trusted comment.
    ///
    /// # Errors
    /// When signing fails or the new signature does not verify.
    pub fn sign(&self, bytes: &[u8], trusted_comment: &str) -> Result<Signature, SignError> {
        let made =
            minisign::sign(None, &self.secret, Cursor::new(bytes), Some(trusted_comment), Some(SIGNATURE_COMMENT));
        let text = made.map_err(|e| SignError::Sign(e.to_string()))?.into_string();
        let signature: Signature = text.parse().map_err(|_| SignError::Sign("unreadable".into()))?;
        self.public.verify(bytes, &signature, trusted_comment).map_err(|e| SignError::Sign(e.to_string()))?;
        Ok(signature)
    }
}

/// Where a secret key, decoded, says how it is encrypted: `Sc` by scrypt, zeros for not.
const KDF: std::ops::Range<usize> = 2..4;
/// Where its checksum begins, and its size in bytes.
const CHECKSUM_AT: usize = 126;
const KEY_BYTES: usize = 158;
/// Size of a decoded public key, in bytes.
const PUBLIC_BYTES: usize = 42;

/// The line of a secret key, and the same decoded; else what the text is.
fn key_line(text: &str) -> Result<(String, Vec<u8>), SignError> {
    let decode = |line: &str| STANDARD.decode(line.trim()).ok();
    let is_one = text.lines().count() == 1;
    let line = if is_one { text } else { text.lines().nth(1).unwrap_or_default() }.trim();
    match decode(line) {
        Some(key) if key.len() == KEY_BYTES && key.starts_with(b"Ed") => Ok((line.to_owned(), key)),
        Some(key) if key.len() == PUBLIC_BYTES && key.starts_with(b"Ed") => Err(SignError::Public),
        Some(file) if is_one && file.starts_with(b"untrusted comment:") => Err(SignError::Encoded),
        _ if text.starts_with("ssh-") || text.starts_with("-----BEGIN") => Err(SignError::Foreign),
        _ => Err(SignError::Form),
    }
}

/// The key as the library reads it.
fn boxed(line: &str) -> Result<SecretKeyBox, SignError> {
    SecretKeyBox::from_string(&format!("untrusted comment: hfl\n{line}\n")).map_err(|_| SignError::Form)
}

/// Why a key cannot be made, read or used to sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// A key could not be generated.
    #[error("cannot make a key: {0}")]
    Generate(String),
    /// The text is not a secret key.
    #[error("not a minisign secret key (two lines, the second of base64 that begins with RW)")]
    Form,
    /// The text is a public key.
    #[error("a public key, which cannot sign")]
    Public,
    /// The text is a key file, encoded in base64 as a whole.
    #[error("a key file encoded in base64 once more")]
    Encoded,
    /// The text is a key of another kind.
    #[error("a key for ssh or TLS, which hfl does not use")]
    Foreign,
    /// The text has the form of a secret key, but its contents are wrong.
    #[error("a damaged minisign secret key: its checksum is wrong")]
    Damaged,
    /// The key is encrypted and no password was given.
    #[error("the key is encrypted and no password was given")]
    Encrypted,
    /// The password does not decrypt the key.
    #[error("the password does not open the key")]
    Password,
    /// Signing failed, or the signature does not verify.
    #[error("signing failed: {0}")]
    Sign(String),
}
