//! Which keys are accepted for which image: one policy for all operations on a repository.

use std::collections::BTreeMap;

use crate::format::head::Trust;
use crate::format::name::Name;
use crate::format::signature::PublicKey;

/// What is accepted for the images of a repository.
#[derive(Debug, Clone)]
pub enum TrustPolicy {
    /// Anything, signed or not.
    Anyone,
    /// This key, for all images.
    Key(PublicKey),
    /// The keys known here: an image's own, else any of them.
    Known(KnownKeys),
}

/// Public keys known on this machine.
#[derive(Debug, Clone, Default)]
pub struct KnownKeys {
    /// Keys of single images.
    pub own: BTreeMap<Name, PublicKey>,
    /// Public half of a secret key given for the whole repository.
    pub given: Option<PublicKey>,
}

/// What is accepted for one image.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// Any of these is sufficient.
    pub any: Vec<Trust>,
    /// Whether they are meant for this image; otherwise a head that matches none of them may be another publisher's.
    pub own: bool,
}

impl TrustPolicy {
    /// What is accepted of `image`.
    pub fn of(&self, image: &Name) -> Accepted {
        match self {
            Self::Anyone => Accepted { any: vec![Trust::Anyone], own: true },
            Self::Key(key) => Accepted { any: vec![Trust::Key(key.clone())], own: true },
            Self::Known(known) => known.of(image),
        }
    }

    /// The same policy, except that only `trust` is accepted for `image`.
    pub fn with(&self, image: &Name, trust: &Trust) -> Self {
        match (self, trust) {
            (Self::Known(known), Trust::Key(key)) => {
                let mut known = known.clone();
                known.own.insert(image.clone(), key.clone());
                known.given = known.given.filter(|given| given == key);
                Self::Known(known)
            }
            (_, Trust::Key(key)) => Self::Key(key.clone()),
            (_, Trust::Anyone) => Self::Anyone,
        }
    }
}

impl KnownKeys {
    fn of(&self, image: &Name) -> Accepted {
        let own: Vec<&PublicKey> = self.own.get(image).into_iter().chain(&self.given).collect();
        let is_own = !own.is_empty();
        let keys = if is_own { own } else { self.own.values().collect() };
        Accepted { any: keys.into_iter().cloned().map(Trust::Key).collect(), own: is_own }
    }
}
