//! The key that signs an image, and which existing heads are accepted.

use super::keyring::{FoundKey, Keyring};
use super::mirror;
use super::options::Repository;
use crate::error::Error;
use crate::format::head::Trust;
use crate::format::name::Name;
use crate::format::signature::PublicKey;
use crate::format::signing::SecretKey;
use crate::repo::survey::TrustPolicy;

/// The key that signs new heads, and which existing heads are accepted.
pub struct Signer {
    /// The secret key, if it is available.
    pub key: Option<FoundKey>,
    /// The trust applied to existing heads.
    pub trust: Trust,
}

impl Signer {
    /// For a first or further version. An image without a key gets that of the images published to the same mirrors from
    /// this machine, if they share one; else one is generated.
    ///
    /// # Errors
    /// The key cannot be read.
    pub fn for_version(repository: &Repository, name: &Name) -> Result<Self, Error> {
        let Some(keyring) = &repository.keyring else { return Ok(Self::with(None)) };
        Ok(Self::with(Some(keyring.find(name, &keys_used(repository))?)))
    }

    /// For the first version of another image in the same run: with the new key of this signer, if that is new.
    pub fn shared(&self) -> Option<Self> {
        self.key.as_ref().and_then(FoundKey::again).map(|key| Self::with(Some(key)))
    }

    /// For a new head of an existing image.
    ///
    /// # Errors
    /// The key cannot be read, or there is none.
    pub fn for_change(keyring: Option<&Keyring>, name: &Name) -> Result<Self, Error> {
        Ok(Self::with(keyring.map(|keyring| keyring.find_kept(name)).transpose()?))
    }

    /// For copying heads to more mirrors; new heads are made only if the secret key is available.
    pub fn for_copies(keyring: Option<&Keyring>, name: &Name, trust: Trust) -> Self {
        let kept = keyring.and_then(|keyring| keyring.find_kept(name).ok());
        Self { key: kept.filter(|found| trust == Trust::Key(found.key.public().clone())), trust }
    }

    fn with(key: Option<FoundKey>) -> Self {
        let trust = key.as_ref().map_or(Trust::Anyone, |found| Trust::Key(found.key.public().clone()));
        Self { key, trust }
    }

    /// The keys whose heads are accepted in a repository where this signer publishes.
    pub fn policy(&self, keyring: Option<&Keyring>, name: &Name) -> TrustPolicy {
        let known = keyring.map(Keyring::known_keys).unwrap_or_default();
        TrustPolicy::Known(known).with(name, &self.trust)
    }

    /// Whether new heads can be made.
    pub fn can_sign(&self) -> bool {
        self.key.is_some() || self.trust == Trust::Anyone
    }

    /// Whether heads and indexes carry signatures.
    pub fn is_signed(&self) -> bool {
        self.trust != Trust::Anyone
    }

    /// The secret key, if it is available.
    pub fn secret(&self) -> Option<&SecretKey> {
        self.key.as_ref().map(|found| &found.key)
    }
}

/// The keys by which this machine signed what it published to the same mirrors.
fn keys_used(repository: &Repository) -> Vec<PublicKey> {
    let mirrors = repository.mirrors.mirrors.iter();
    let places: Vec<String> = mirrors.map(|mirror| mirror::place(mirror, &repository.relative_to)).collect();
    repository.memory.keys_at(&places).iter().filter_map(|line| line.parse().ok()).collect()
}
