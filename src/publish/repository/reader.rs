//! What this machine has seen of images as a reader: `sync` and `verify` keep the rules of all readers, and no mirror takes
//! them back to an older version.

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

/// How a repository is read.
#[derive(Debug, Clone, Default)]
pub struct Reader {
    /// Where it is remembered which versions were seen. Without it, every reading is the first one.
    pub state: Option<StateDirectory>,
    /// Accepts a version below the newest that was seen.
    pub allow_rollback: bool,
}

impl OpenRepository {
    /// Judges the newest head of an image by the rules of readers; remembers it, unless nothing is to be written. Where the
    /// image `can_go_on`, the next version ends what another version under a number that was seen and an expiry mean. Who
    /// asked for no proof gets none.
    ///
    /// # Errors
    /// [`ErrorKind::Unverified`] where readers refuse it.
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
                        "these mirrors were put back, or lie; if the publisher did start anew, --allow-rollback accepts it, \
                         and so does removing {}",
                        state.file(image).display()
                    )),
                    None => error.hint("check this machine's clock; hfl publish makes a new head where the secret key is"),
                })
            }
            (Err(e), _) => Err(Error::local(e.to_string())),
        }
    }
}
