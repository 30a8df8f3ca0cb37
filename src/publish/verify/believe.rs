//! Whose signatures are believed.

use std::fs;

use crate::head::Trust;
use crate::keys::PublicKey;
use crate::name::Name;
use crate::publish::keyring::Keyring;

/// What is believed of the images of a repository.
#[derive(Debug, Clone)]
pub enum Believe {
    /// Whatever is there.
    Anyone,
    /// This key, for all images.
    Key(PublicKey),
    /// The keys that publishing kept: an image's own, else any of them.
    Kept(Keyring),
}

/// What is believed of one image.
#[derive(Debug, Clone)]
pub struct Trusts {
    /// Any of these is enough.
    pub any: Vec<Trust>,
    /// Whether they are meant for this image: otherwise a head that they do not fit may be somebody else's.
    pub own: bool,
}

impl Believe {
    /// What is believed of `image`.
    pub fn of(&self, image: &Name) -> Trusts {
        match self {
            Self::Anyone => Trusts { any: vec![Trust::Anyone], own: true },
            Self::Key(key) => Trusts { any: vec![Trust::Key(key.clone())], own: true },
            Self::Kept(keyring) => kept(keyring, image),
        }
    }
}

fn kept(keyring: &Keyring, image: &Name) -> Trusts {
    let file = keyring.directory.as_ref().map(|directory| directory.join(format!("{image}.pub")));
    let own: Option<PublicKey> = file.and_then(|file| fs::read_to_string(file).ok()?.parse().ok());
    let named = keyring.file.is_some() || keyring.text.is_some();
    // Without a key that was named, the keyring would make a new one.
    let named = named.then(|| keyring.find(image).ok().map(|found| found.key.public().clone())).flatten();
    let mut keys: Vec<PublicKey> = own.into_iter().chain(named).collect();
    let own = !keys.is_empty();
    if !own {
        keys = keyring.public_keys();
    }
    Trusts { any: keys.into_iter().map(Trust::Key).collect(), own }
}
