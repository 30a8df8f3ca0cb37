//! What a reader asks for and accepts, and the warnings it gets.

use std::fmt;

use super::rollback::{Refused, Verdict, VersionHistory};
use super::{ReadError, ReadErrorKind, StateDirectory, StateError};
use crate::format::head::{Head, Trust};
use crate::format::name::{Name, Version};
use crate::format::time::Timestamp;
use crate::store::Fetch;

/// Why nothing is recorded if [`StateDirectory::of_user`] finds no directory.
const NO_STATE: &str =
    "neither XDG_STATE_HOME nor HOME names a directory; set one of them, or older versions are not recognized";

/// An image to open, and what counts as proof of it.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Image name.
    pub image: Name,
    /// Version to open; `None` for the newest.
    pub version: Option<Version>,
    /// Which signatures are accepted.
    pub trust: Trust,
    /// Where seen versions are recorded. Without it, every read counts as the first.
    pub state: Option<StateDirectory>,
    /// Accepts a version below the newest seen, and records it instead.
    pub allow_rollback: bool,
    /// Whether the mirrors that the head names also count as places of this image.
    pub follow_mirrors: bool,
    /// If the stores are a cache: the places whose copies it holds. An unsigned head in a cache is accepted only if it
    /// is the newest that was seen from one of these places.
    pub cached_from: Option<Vec<String>>,
}

/// A warning about an accepted image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// Its head expired at this time, but the image was used here before.
    Expired(Timestamp),
    /// Accepted only because [`OpenOptions::allow_rollback`] is set.
    Allowed(Refused),
    /// It could not be recorded that this version was seen, and why.
    NotRemembered(Version, String),
}

impl OpenOptions {
    /// The newest version of `image`, without a history.
    pub fn new(image: Name, trust: Trust) -> Self {
        let (version, state, cached_from) = Default::default();
        Self { image, version, trust, state, allow_rollback: false, follow_mirrors: true, cached_from }
    }

    /// Sets the version.
    pub fn version(mut self, version: Option<Version>) -> Self {
        self.version = version;
        self
    }

    /// Sets where seen versions are recorded.
    pub fn state(mut self, state: Option<StateDirectory>) -> Self {
        self.state = state;
        self
    }

    /// Sets whether a rollback is accepted.
    pub fn allow_rollback(mut self, allow: bool) -> Self {
        self.allow_rollback = allow;
        self
    }

    /// Loads what was seen before. Blocks the thread.
    pub(super) fn history(&self) -> Result<VersionHistory, ReadError> {
        let loaded = self.state.as_ref().map_or(Ok(VersionHistory::default()), |state| state.load(&self.image));
        loaded.map_err(ReadError::from)
    }

    /// Judges a verified head that came from one of `places`, at the time `now`.
    pub(super) fn judge(
        &self,
        history: &VersionHistory,
        head: &Head,
        places: &[String],
        now: Timestamp,
    ) -> Result<Option<Warning>, Refused> {
        let unsigned_from = self.cached_from.as_ref().filter(|_| self.trust == Trust::Anyone);
        if unsigned_from.is_some_and(|from| !history.is_newest_seen(head, &self.trust, from)) {
            return Err(Refused::NotTheNewestSeen(head.newest().version));
        }
        match history.judge(head, &self.trust, &self.places(head, places), now) {
            Ok(Verdict::Good) => Ok(None),
            Ok(Verdict::Expired(at)) => Ok(Some(Warning::Expired(at))),
            Err(refused) if self.allow_rollback && refused.is_rollback() => Ok(Some(Warning::Allowed(refused))),
            Err(refused) => Err(refused),
        }
    }

    /// Judges the head again by the current history, and records it. Blocks the thread.
    ///
    /// # Errors
    /// [`Refused`] if another reader has seen more in the meantime; a damaged history.
    pub(super) fn remember(&self, head: &Head, places: &[String], now: Timestamp) -> Result<Vec<Warning>, StateError> {
        let version = head.newest().version;
        let Some(state) = &self.state else {
            let judged = self.judge(&VersionHistory::default(), head, places, now)?;
            return Ok(judged.into_iter().chain([Warning::NotRemembered(version, NO_STATE.to_owned())]).collect());
        };
        let mut judged = None;
        let updated = state.update(&self.image, |history| {
            judged = self.judge(history, head, places, now)?;
            history.remember(head, &self.trust, &self.places(head, places));
            Ok(())
        });
        let mut warnings: Vec<Warning> = judged.into_iter().collect();
        match updated {
            Ok(()) => {}
            Err(e @ StateError::Unwritable { .. }) => {
                warnings.push(Warning::NotRemembered(version, e.to_string()));
            }
            Err(e) => return Err(e),
        }
        Ok(warnings)
    }

    /// The error for a head from `store` that verifies but is not accepted.
    pub(super) fn refusal(&self, store: &dyn Fetch, error: StateError) -> ReadError {
        let StateError::Refused(refused) = error else { return error.into() };
        let message = format!("{}: {}: {refused}", store.location(), self.image);
        let hint = match (&refused, &self.state) {
            (Refused::Expired(_), _) => {
                Some("check this machine's clock, and ask the publisher for a new head".to_owned())
            }
            (refused, Some(state)) if refused.is_rollback() => Some(format!(
                "the mirror is behind, or lies; if the publisher did start anew, --allow-rollback accepts it, and so does \
                 removing {}",
                state.file(&self.image).display()
            )),
            _ => None,
        };
        ReadError::new(ReadErrorKind::Unverified, message).hint(hint)
    }

    /// The places that vouch for a head.
    fn places(&self, head: &Head, asked: &[String]) -> Vec<String> {
        let mut places = self.cached_from.as_deref().unwrap_or(asked).to_vec();
        if self.follow_mirrors {
            let named = head.mirrors.iter().map(|url| url.as_str().to_owned());
            places.extend(named.filter(|url| !asked.contains(url)));
        }
        places
    }
}

#[cfg(feature = "publish")]
impl OpenOptions {
    /// Judges a head that was read and verified elsewhere, from one of `places`, and records it if wanted. Blocks the
    /// thread.
    ///
    /// # Errors
    /// The head is refused because of what was seen before, or has expired; the history cannot be read.
    pub fn accept(
        &self,
        head: &Head,
        places: &[String],
        now: Timestamp,
        remember: bool,
    ) -> Result<Vec<Warning>, StateError> {
        match (&self.state, remember) {
            (Some(state), false) => {
                let history = state.load(&self.image)?;
                Ok(self.judge(&history, head, places, now)?.into_iter().collect())
            }
            _ => self.remember(head, places, now),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired(at) => write!(f, "the head expired at {at}; is the clock right?"),
            Self::Allowed(refused) => write!(f, "{refused}; it is accepted because a rollback is allowed"),
            Self::NotRemembered(version, why) => {
                write!(f, "it is not remembered that version {version} was seen: {why}")
            }
        }
    }
}
