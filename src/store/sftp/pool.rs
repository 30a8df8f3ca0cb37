//! Up to four connections to one server, made on demand.
//!
//! One connection carries many requests, but its throughput is limited by its window. So more concurrent users get
//! more connections. A connection that ended is re-established on the next use.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::connect::connect;
use super::failure::Failure;
use super::session::Session;
use super::{Place, SftpConfig};
use crate::store::StoreError;

/// Maximum number of connections: servers allow ten unauthenticated ones at a time, from all clients together.
const LANES: usize = 4;
/// Number of users per connection from which another one is worth opening.
const USERS_PER_LANE: usize = 12;
/// Time after a failure in which an additional connection is not tried again.
const SPARE_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Pool {
    config: SftpConfig,
    place: Place,
    lanes: [Lane; LANES],
}

#[derive(Debug, Default)]
struct Lane {
    users: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    session: Option<Arc<Session>>,
    failed: Option<(Instant, StoreError)>,
}

/// A session in use; counts as one user of its lane.
#[derive(Debug)]
pub struct Lease<'a> {
    session: Arc<Session>,
    _user: User<'a>,
}

impl Deref for Lease<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

#[derive(Debug)]
struct User<'a>(&'a AtomicUsize);

impl Drop for User<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    pub fn new(config: SftpConfig, place: Place) -> Self {
        Self { config, place, lanes: Default::default() }
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Leases the session with the fewest users.
    pub async fn lease(&self) -> Result<Lease<'_>, Failure> {
        let users = |lane: &Lane| lane.users.load(Ordering::Relaxed);
        let wanted = 1 + self.lanes.iter().map(users).sum::<usize>() / USERS_PER_LANE;
        let [first, ..] = &self.lanes;
        let lane = self.lanes.iter().take(wanted).min_by_key(|lane| users(lane)).unwrap_or(first);
        if !std::ptr::eq(lane, first)
            && let Ok(lease) = self.enter(lane, SPARE_PAUSE).await
        {
            return Ok(lease);
        }
        self.enter(first, Duration::ZERO).await.map_err(Failure::Store)
    }

    /// The lane's session, re-established if there is none. A failure is returned to all callers that waited for it,
    /// and to those that come within `pause`.
    async fn enter<'a>(&'a self, lane: &'a Lane, pause: Duration) -> Result<Lease<'a>, StoreError> {
        let asked = Instant::now();
        lane.users.fetch_add(1, Ordering::Relaxed);
        let user = User(&lane.users);
        let mut state = lane.state.lock().await;
        if let Some(session) = state.session.as_ref().filter(|session| !session.is_over()) {
            return Ok(Lease { session: Arc::clone(session), _user: user });
        }
        state.session = None;
        if let Some((at, error)) = &state.failed
            && *at + pause >= asked
        {
            return Err(error.clone());
        }
        match connect(&self.config, &self.place).await {
            Ok(session) => {
                let session = Arc::new(session);
                *state = State { session: Some(Arc::clone(&session)), failed: None };
                Ok(Lease { session, _user: user })
            }
            Err(error) => {
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
}
