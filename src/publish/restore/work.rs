//! What the steps of a restore share: the image, the output, and what has been done.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::output::Output;
use super::saved_bases::SavedBases;
use crate::error::{Error, ErrorKind};
use crate::format::digest::Sha256;
use crate::format::index::Index;
use crate::progress::{Event, Origin, Phase, Watch};
use crate::publish::places::Places;

/// Interval of the checks whether the user cancelled.
const CANCEL_PAUSE: Duration = Duration::from_millis(50);

/// What has become of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not there yet.
    Missing,
    /// It lay there already.
    Kept,
    /// It was written.
    Written,
}

/// Image bytes by where they came from, and what was written.
#[derive(Debug, Default)]
pub struct Counts {
    kept: AtomicU64,
    moved: AtomicU64,
    seed: AtomicU64,
    fetched: AtomicU64,
    hole: AtomicU64,
    written: AtomicU64,
}

impl Counts {
    fn of(&self, origin: Origin) -> &AtomicU64 {
        match origin {
            Origin::Hole => &self.hole,
            Origin::Kept => &self.kept,
            Origin::Moved => &self.moved,
            Origin::Seed => &self.seed,
            Origin::Fetched => &self.fetched,
        }
    }

    /// Image bytes that came from `origin`.
    pub fn bytes(&self, origin: Origin) -> u64 {
        self.of(origin).load(Ordering::Relaxed)
    }

    /// Bytes written.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

/// A restore under way.
pub struct Work {
    /// The image.
    pub index: Arc<Index>,
    /// Where its blocks lie.
    pub places: Places,
    /// The output.
    pub out: Output,
    /// What has been done.
    pub counts: Counts,
    /// Where blocks of old versions are saved.
    pub bases: Option<Arc<SavedBases>>,
    /// Progress and cancel flag.
    pub watch: Watch,
    states: Mutex<Vec<State>>,
    /// When something last got done.
    progressed: Mutex<Instant>,
}

impl Work {
    /// A restore of which nothing is done yet.
    pub fn new(index: Arc<Index>, out: Output, bases: Option<Arc<SavedBases>>, watch: Watch) -> Self {
        let states = Mutex::new(vec![State::Missing; index.blocks().len()]);
        let (counts, progressed) = (Counts::default(), Mutex::new(Instant::now()));
        Self {
            places: Places::new(index.blocks().len(), index.extents()),
            index,
            out,
            bases,
            counts,
            watch,
            states,
            progressed,
        }
    }

    fn states(&self) -> MutexGuard<'_, Vec<State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The blocks in this state, ascending.
    pub fn blocks(&self, wanted: State) -> Vec<u32> {
        let states = self.states();
        (0..states.len() as u32).filter(|&block| states[block as usize] == wanted).collect()
    }

    /// Saves a block of an old version, if a delta may need it.
    pub fn save_base(&self, sha256: &Sha256, bytes: &[u8]) {
        if let Some(bases) = &self.bases {
            bases.take(sha256, bytes);
        }
    }

    /// Whether a block is not there yet.
    pub fn is_missing(&self, block: u32) -> bool {
        self.states()[block as usize] == State::Missing
    }

    /// Notes that a block lies where it belongs.
    pub fn keep(&self, block: u32) {
        if std::mem::replace(&mut self.states()[block as usize], State::Kept) == State::Missing {
            self.came(self.places.bytes_of(block), Origin::Kept);
        }
    }

    /// Writes a block to all its places unless it is there already; returns whether that was needed.
    ///
    /// # Errors
    /// A failed write.
    pub fn write(&self, block: u32, bytes: &[u8], origin: Origin) -> Result<bool, Error> {
        {
            let state = &mut self.states()[block as usize];
            if *state != State::Missing {
                return Ok(false);
            }
            *state = State::Written;
        }
        let (mut length, mut written) = (0, 0);
        for run in self.places.of_block(block) {
            let bytes = &bytes[run.of_block()];
            written += if self.out.is_in_place() {
                self.out.write_differing(bytes, run.at)?
            } else {
                self.out.write(bytes, run.at)?;
                u64::from(run.bytes)
            };
            length += u64::from(run.bytes);
        }
        self.wrote(written);
        self.came(length, origin);
        Ok(true)
    }

    /// Counts bytes that were written.
    pub fn wrote(&self, bytes: u64) {
        self.counts.written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes of the image that lie where they belong.
    pub fn came(&self, bytes: u64, from: Origin) {
        self.counts.of(from).fetch_add(bytes, Ordering::Relaxed);
        *self.progressed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.watch.progress.event(Event::Restored { bytes, from });
    }

    /// How long nothing got done.
    pub fn idle(&self) -> Duration {
        self.progressed.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Enters a phase.
    pub fn enter(&self, phase: Phase) {
        *self.progressed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.watch.progress.event(Event::Phase(phase));
    }

    /// Returns when the user cancels.
    pub async fn wait_for_cancel(&self) {
        while !self.watch.cancel.load(Ordering::Relaxed) {
            tokio::time::sleep(CANCEL_PAUSE).await;
        }
    }

    /// Fails once the user has cancelled.
    ///
    /// # Errors
    /// That the user has.
    pub fn check_cancelled(&self) -> Result<(), Error> {
        if self.watch.cancel.load(Ordering::Relaxed) { Err(self.interrupted()) } else { Ok(()) }
    }

    /// The user cancelled.
    pub fn interrupted(&self) -> Error {
        Error::new(ErrorKind::Interrupted, format!("interrupted: {} is not complete", self.out.path().display()))
    }
}
