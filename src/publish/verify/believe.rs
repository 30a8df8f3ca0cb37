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
    Kept {
        /// Where they are kept.
        keyring: Keyring,
        /// The public half of a secret key that was named for this repository.
        named: Option<PublicKey>,
    },
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
    /// The keys that are kept here, and the one that the keyring was given.
    pub fn kept(keyring: Keyring) -> Self {
        let named = keyring.given();
        Self::Kept { keyring, named }
    }

    /// What is believed of `image`.
    pub fn of(&self, image: &Name) -> Trusts {
        match self {
            Self::Anyone => Trusts { any: vec![Trust::Anyone], own: true },
            Self::Key(key) => Trusts { any: vec![Trust::Key(key.clone())], own: true },
            Self::Kept { keyring, named } => kept(keyring, named.as_ref(), image),
        }
    }
}

fn kept(keyring: &Keyring, named: Option<&PublicKey>, image: &Name) -> Trusts {
    let file = keyring.directory.as_ref().map(|directory| directory.join(format!("{image}.pub")));
    let own: Option<PublicKey> = file.and_then(|file| fs::read_to_string(file).ok()?.parse().ok());
    let mut keys: Vec<PublicKey> = own.into_iter().chain(named.cloned()).collect();
    let own = !keys.is_empty();
    if !own {
        keys = keyring.public_keys();
    }
    Trusts { any: keys.into_iter().map(Trust::Key).collect(), own }
}
