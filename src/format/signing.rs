//! Signing with minisign keys.
//!
//! Does not read or write files; `publish::keyring` does. A key's text never appears in a message.

use std::io::Cursor;

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
        let text = text.trim();
        let text =
            if text.lines().count() == 1 { format!("untrusted comment: hfl\n{text}\n") } else { format!("{text}\n") };
        let unreadable = |_| SignError::Form;
        let plain = SecretKeyBox::from_string(&text).map_err(unreadable)?.into_unencrypted_secret_key();
        let secret = match (plain, password) {
            (Ok(secret), _) => secret,
            (Err(_), _) if !is_encrypted(&text) => return Err(SignError::Form),
            (Err(_), Some(password)) => {
                let boxed = SecretKeyBox::from_string(&text).map_err(unreadable)?;
                boxed.into_secret_key(Some(password)).map_err(|_| SignError::Password)?
            }
            (Err(_), None) => return Err(SignError::Encrypted),
        };
        Self::new(secret)
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

/// Whether the second line has the length of a key and the start of an encrypted one: `Ed`, `Sc` (scrypt), `B2`
/// (BLAKE2b).
fn is_encrypted(text: &str) -> bool {
    text.lines().nth(1).is_some_and(|line| line.starts_with("RWRTY0Iy") && line.len() == 212)
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
