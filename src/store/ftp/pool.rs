//! The pool of control connections: each is leased to one user at a time, and reused only if its last step completed.
//!
//! The limit adapts: if the server refuses another connection, the pool shrinks by one slot and continues with the
//! existing ones. The last slot is never given up.

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

/// A connection idle for longer is checked before use; servers close idle ones after minutes.
const TRUSTED_FOR: Duration = Duration::from_secs(15);

/// The control connections to one server.
#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<Vec<Session>>,
    room: Semaphore,
    places: AtomicUsize,
}

impl Pool {
    /// A pool without open connections.
    pub fn new() -> Self {
        Self { idle: Mutex::default(), room: Semaphore::new(JOBS), places: AtomicUsize::new(JOBS) }
    }

    /// Leases a session exclusively; opens one if none is idle.
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

    /// Takes an idle session that still answers.
    async fn idle(&self) -> Option<Session> {
        loop {
            let mut session = self.idle.lock().ok()?.pop()?;
            if session.idle() < TRUSTED_FOR || session.demand("NOOP").await.is_ok() {
                return Some(session);
            }
        }
    }

    /// Shrinks the pool by one slot, unless it is the last.
    fn give_up_one(&self) -> bool {
        let fewer = |places: usize| (places > 1).then(|| places - 1);
        self.places.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok()
    }
}

/// A leased session; returned to the pool on drop if it can be reused.
#[derive(Debug)]
pub(super) struct Lease<'a> {
    session: Option<Session>,
    pool: &'a Pool,
    // Released after the session is returned.
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
