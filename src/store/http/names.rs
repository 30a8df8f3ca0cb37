//! Host name lookup on dedicated threads, with results cached for when no name server answers; of several addresses, the
//! one that works comes first.
//!
//! The system resolver blocks its thread, for up to half a minute if no name server answers: no shared thread may run
//! it. A machine whose root file system is mounted from here must find its mirrors without /etc.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Notify;

use super::addresses::{STACK_BYTES, first_to_answer, in_order};

/// How long addresses are used without another lookup.
const FRESH: Duration = Duration::from_secs(60);
/// How long to wait for the lookup of a name with cached addresses.
const REFRESH_WAIT: Duration = Duration::from_secs(1);
/// How long to wait for any other name: the connect timeout allows no more.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// Limit on cached names: more than mirrors and their redirects have.
const HOSTS_MAX: usize = 256;
/// Ports remembered of a host.
const PORTS_MAX: usize = 4;
/// How long an address that worked is used without another trial. Later ones do not delay a connection.
const PROVEN_FOR: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Host {
    addresses: Vec<SocketAddr>,
    found: Option<Instant>,
    why_not: String,
    looking: bool,
    /// The ports that are connected to.
    ports: Vec<u16>,
    /// The address that answered first, and when.
    works: Option<(SocketAddr, Instant)>,
    trying: bool,
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
        let mut order = in_order(&self.addresses, self.works.map(|(address, _)| address));
        // The HTTP library divides the time for connecting by the number of addresses: what works gets all of it.
        if self.works.is_some_and(|(address, _)| order.first() == Some(&address)) && self.ports.len() == 1 {
            order.truncate(1);
        }
        Ok(Box::new(order.into_iter()))
    }

    /// The trial of its addresses that is due now, if any.
    fn trial(&mut self) -> Option<(Vec<SocketAddr>, Vec<u16>)> {
        let is_proven = self.works.is_some_and(|(_, at)| at.elapsed() < PROVEN_FOR);
        if self.trying || is_proven || self.addresses.len() < 2 || self.ports.is_empty() {
            return None;
        }
        self.trying = true;
        Some((in_order(&self.addresses, self.works.map(|(address, _)| address)), self.ports.clone()))
    }
}

/// A caching resolver.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct Names(Arc<Inner>);

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

    fn tried(&self, name: &str, worked: Option<SocketAddr>) {
        if let Some(host) = self.lock().get_mut(name) {
            host.trying = false;
            host.works = worked.map(|address| (address, Instant::now()));
        }
        self.answered.notify_waiters();
    }
}

/// A thread for one host, which may block.
fn thread() -> std::thread::Builder {
    std::thread::Builder::new().name("hfl-names".into()).stack_size(STACK_BYTES)
}

impl Names {
    /// States that connections go to this port of the host.
    pub(super) fn connects_to(&self, name: &str, port: u16) {
        let mut hosts = self.0.lock();
        if hosts.len() < HOSTS_MAX || hosts.contains_key(name) {
            let ports = &mut hosts.entry(name.to_owned()).or_default().ports;
            if ports.len() < PORTS_MAX && !ports.contains(&port) {
                ports.push(port);
            }
        }
    }

    /// A connection to the host failed: its addresses are tried again before the next one.
    pub(super) fn doubt(&self, name: &str) {
        if let Some(host) = self.0.lock().get_mut(name) {
            host.works = None;
        }
    }

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
            let look = move || {
                let found = (asked.as_str(), 0).to_socket_addrs();
                inner.found(&asked, found.map(Iterator::collect));
            };
            host.looking = thread().spawn(look).is_ok();
        }
        if host.addresses.is_empty() { FIRST_WAIT } else { REFRESH_WAIT }
    }

    /// Finds the addresses of a host name.
    pub(super) async fn find(&self, name: &str) {
        let wait = self.look(name);
        // After a timeout the cached addresses are used.
        let _ = tokio::time::timeout(wait, self.until(name, |host| !host.looking)).await;
    }

    /// Waits until this is true of the host.
    async fn until(&self, name: &str, is_true: impl Fn(&Host) -> bool) {
        loop {
            let mut answered = pin!(self.0.answered.notified());
            answered.as_mut().enable();
            if self.0.lock().get(name).is_none_or(&is_true) {
                return;
            }
            answered.await;
        }
    }

    /// Tries the addresses of a host if that is due, and waits for the outcome if none is known to work. The trial goes
    /// on if its caller is dropped: each address gets its full time.
    async fn prove(&self, name: &str) {
        let trial = self.0.lock().get_mut(name).and_then(Host::trial);
        if let Some((addresses, ports)) = trial {
            let (inner, tried) = (Arc::clone(&self.0), name.to_owned());
            let work = move || inner.tried(&tried, first_to_answer(&addresses, &ports));
            if thread().spawn(work).is_err() {
                self.0.tried(name, None);
            }
        }
        self.until(name, |host| !host.trying || host.works.is_some()).await;
    }

    /// Resolves a host name to its addresses, in the order in which they are to be connected to.
    async fn resolve(self, name: String) -> Result<Addrs, Box<dyn std::error::Error + Send + Sync>> {
        self.find(&name).await;
        self.prove(&name).await;
        self.0.lock().entry(name.clone()).or_default().answer(&name)
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(self.clone().resolve(name.as_str().to_owned()))
    }
}
