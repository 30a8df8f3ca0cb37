//! Control connections: each is used by one at a time, kept when it is done, and never used again when it is not.
//!
//! How many there may be is found out: a server that has no room for one more makes the pool smaller, and the work
//! goes on with those there are. The last place is never given up.

use std::ops::{Deref, DerefMut};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::answer::Failure;
use super::connect::connect;
use super::session::Session;
use super::tls::Authorities;
use super::{FtpConfig, JOBS};
use crate::store::StoreErrorKind;

/// A connection that was idle for longer is asked whether it still is one; servers close them after minutes.
const TRUSTED_FOR: Duration = Duration::from_secs(15);

/// The control connections to one server.
#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<Vec<Session>>,
    room: Semaphore,
    places: AtomicUsize,
}

impl Pool {
    /// A pool in which nothing is open yet.
    pub fn new() -> Self {
        Self { idle: Mutex::default(), room: Semaphore::new(JOBS), places: AtomicUsize::new(JOBS) }
    }

    /// A session that nobody else uses, opened where none is idle.
    pub async fn take(&self, config: &FtpConfig, authorities: Option<&Authorities>) -> Result<Lease<'_>, Failure> {
        loop {
            let place = self.room.acquire().await;
            let place = place.map_err(|_| Failure::new(StoreErrorKind::Other, "the pool of connections is closed"))?;
            if let Some(session) = self.idle().await {
                return Ok(Lease { session: Some(session), pool: self, _place: place });
            }
            match connect(config, authorities).await {
                Ok(session) => return Ok(Lease { session: Some(session), pool: self, _place: place }),
                Err(failure) if failure.crowded && self.give_up_one() => place.forget(),
                Err(failure) => return Err(failure),
            }
        }
    }

    /// An idle session that still answers.
    async fn idle(&self) -> Option<Session> {
        loop {
            let mut session = self.idle.lock().ok()?.pop()?;
            if session.idle() < TRUSTED_FOR || session.demand("NOOP").await.is_ok() {
                return Some(session);
            }
        }
    }

    /// Makes the pool smaller by one place, unless it is the last.
    fn give_up_one(&self) -> bool {
        let fewer = |places: usize| (places > 1).then(|| places - 1);
        self.places.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok()
    }
}

/// A session that is used; it goes back where it can be used again.
#[derive(Debug)]
pub(super) struct Lease<'a> {
    session: Option<Session>,
    pool: &'a Pool,
    // Given back after the session is.
    _place: SemaphorePermit<'a>,
}

impl Deref for Lease<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.session.as_ref().expect("a lease holds its session until it is dropped")
    }
}

impl DerefMut for Lease<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        self.session.as_mut().expect("a lease holds its session until it is dropped")
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take().filter(Session::is_settled)
            && let Ok(mut idle) = self.pool.idle.lock()
        {
            idle.push(session);
        }
    }
}
