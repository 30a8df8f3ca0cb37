//! Host name lookup on dedicated threads, with results cached for when no name server answers.
//!
//! The system resolver blocks its thread, for up to half a minute if no name server answers: no shared thread may run
//! it. A machine whose root file system is mounted from here must find its mirrors without /etc.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Notify;

/// How long addresses are used without another lookup.
const FRESH: Duration = Duration::from_secs(60);
/// How long to wait for the lookup of a name with cached addresses.
const REFRESH_WAIT: Duration = Duration::from_secs(1);
/// How long to wait for any other name: the connect timeout allows no more.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// Limit on cached names: more than mirrors and their redirects have.
const HOSTS_MAX: usize = 256;

#[derive(Debug, Default)]
struct Host {
    addresses: Vec<SocketAddr>,
    found: Option<Instant>,
    why_not: String,
    looking: bool,
}

impl Host {
    fn is_fresh(&self) -> bool {
        self.found.is_some_and(|at| at.elapsed() < FRESH)
    }

    fn answer(&self, host: &str) -> Result<Addrs, Box<dyn std::error::Error + Send + Sync>> {
        if self.addresses.is_empty() {
            let why = if self.why_not.is_empty() { "no name server answers in time" } else { &self.why_not };
            return Err(format!("cannot find the host {host}: {why}").into());
        }
        Ok(Box::new(self.addresses.clone().into_iter()))
    }
}

/// A caching resolver.
#[derive(Debug, Clone, Default)]
pub(super) struct Names(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    hosts: Mutex<HashMap<String, Host>>,
    answered: Notify,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self, name: &str, found: io::Result<Vec<SocketAddr>>) {
        let mut hosts = self.lock();
        let host = hosts.entry(name.to_owned()).or_default();
        host.looking = false;
        match found {
            Ok(addresses) if !addresses.is_empty() => (host.addresses, host.found) = (addresses, Some(Instant::now())),
            Ok(_) => host.why_not = "it has no address".into(),
            Err(e) => host.why_not = e.to_string().to_lowercase(),
        }
        drop(hosts);
        self.answered.notify_waiters();
    }
}

impl Names {
    /// Starts a lookup unless one is running; returns how long to wait for its result.
    fn look(&self, name: &str) -> Duration {
        let mut hosts = self.0.lock();
        if hosts.len() >= HOSTS_MAX && !hosts.contains_key(name) {
            hosts.retain(|_, host| host.looking);
        }
        let host = hosts.entry(name.to_owned()).or_default();
        if host.is_fresh() {
            return Duration::ZERO;
        }
        if !std::mem::replace(&mut host.looking, true) {
            let (inner, asked) = (Arc::clone(&self.0), name.to_owned());
            let thread = std::thread::Builder::new().name("hfl-names".into()).stack_size(256 << 10);
            let look = move || {
                let found = (asked.as_str(), 0).to_socket_addrs();
                inner.found(&asked, found.map(Iterator::collect));
            };
            host.looking = thread.spawn(look).is_ok();
        }
        if host.addresses.is_empty() { FIRST_WAIT } else { REFRESH_WAIT }
    }

    /// Resolves a host name to its addresses.
    pub(super) async fn resolve(self, name: String) -> Result<Addrs, Box<dyn std::error::Error + Send + Sync>> {
        let wait = self.look(&name);
        let answered = async {
            loop {
                let answered = self.0.answered.notified();
                if self.0.lock().get(&name).is_none_or(|host| !host.looking) {
                    return;
                }
                answered.await;
            }
        };
        // After a timeout the cached addresses are used.
        let _ = tokio::time::timeout(wait, answered).await;
        self.0.lock().entry(name.clone()).or_default().answer(&name)
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(self.clone().resolve(name.as_str().to_owned()))
    }
}
