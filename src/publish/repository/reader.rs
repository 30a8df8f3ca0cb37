//! This machine's state as a reader: `sync` and `verify` follow the rules of all readers, with rollback protection
//! against mirrors that serve an older version.

use super::OpenRepository;
use crate::error::{Error, ErrorKind};
use crate::format::head::Trust;
use crate::format::name::Name;
use crate::progress::Event;
use crate::repo::rollback::Refused;
use crate::repo::source::place;
use crate::repo::survey::VerifiedHead;
use crate::repo::{OpenOptions, StateDirectory, StateError};
use crate::system::bridge;

/// How to read a repository.
#[derive(Debug, Clone, Default)]
pub struct Reader {
    /// Where the versions seen are recorded. Without it, every read counts as the first.
    pub state: Option<StateDirectory>,
    /// Accepts a version older than the newest one seen.
    pub allow_rollback: bool,
}

impl OpenRepository {
    /// Checks the newest head of an image by the rules of readers and records it, except in a dry run. If the image
    /// `can_go_on`, a reused version number or an expired head only causes a warning: the next version resolves it.
    /// Heads accepted without a key are not checked.
    ///
    /// # Errors
    /// [`ErrorKind::Unverified`] if readers refuse it.
    pub async fn accept(&self, image: &Name, newest: &VerifiedHead, can_go_on: bool) -> Result<(), Error> {
        let Reader { state, allow_rollback } = self.config.reader.clone();
        let Some(key) = newest.key.clone() else { return Ok(()) };
        let trust = Trust::Key(key);
        let options = OpenOptions::new(image.clone(), trust).state(state).allow_rollback(allow_rollback);
        let places = self.mirrors.iter().map(|m| m.public.as_deref().map_or_else(|| place(&*m.store), place));
        let (places, head): (Vec<String>, _) = (places.collect(), newest.head.clone());
        let (now, remember) = (self.config.host.now(), !self.config.dry_run);
        let judge = move || {
            let judged = options.accept(&head, &places, now, remember);
            (judged, options)
        };
        match bridge::blocking(judge).await {
            (Ok(warnings), _) => {
                for warning in warnings {
                    self.watch.progress.event(Event::Warning(&format!("{image}: {warning}")));
                }
                Ok(())
            }
            (Err(StateError::Refused(refused)), _) if can_go_on && !matches!(refused, Refused::Rollback { .. }) => {
                self.watch
                    .progress
                    .event(Event::Warning(&format!("{image}: {refused}; publishing it again ends that")));
                Ok(())
            }
            (Err(StateError::Refused(refused)), options) => {
                let error = Error::new(ErrorKind::Unverified, format!("{image}: {refused}"));
                Err(match options.state.filter(|_| refused.is_rollback()) {
                    Some(state) => error.hint(format!(
                        "these mirrors were rolled back or are malicious; if the publisher did start anew, \
                         --allow-rollback accepts it, and so does removing {}",
                        state.file(image).display()
                    )),
                    None => error.hint("check this machine's clock; hfl publish with the secret key makes a new head"),
                })
            }
            (Err(e), _) => Err(Error::local(e.to_string())),
        }
    }
}
