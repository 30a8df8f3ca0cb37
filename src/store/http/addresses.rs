//! Finds out which address of a host works: all are tried at once, a little apart, each with the full connect timeout
//! (RFC 8305, "Happy Eyeballs").
//!
//! The HTTP library tries the addresses of a family one after the other, each for its part of the time, so one that drops
//! packets would delay every connection. It is given the address that works instead.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Connect timeout of one address; of a whole connection, it includes DNS lookup and TLS handshake.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between the starts of two attempts ("Connection Attempt Delay").
const APART: Duration = Duration::from_millis(250);
/// Addresses tried, at most: a name server may name many more.
const TRIED_MAX: usize = 32;
/// Stack of a thread that looks up a name or connects.
pub(super) const STACK_BYTES: usize = 256 << 10;

/// The addresses with alternating families, otherwise as the resolver prefers them; `first` leads, if it is one of them.
pub(super) fn in_order(addresses: &[SocketAddr], first: Option<SocketAddr>) -> Vec<SocketAddr> {
    let first = first.filter(|first| addresses.contains(first)).or(addresses.first().copied());
    let Some(first) = first else { return Vec::new() };
    let others = addresses.iter().copied().filter(|address| *address != first);
    let (alike, different): (VecDeque<_>, VecDeque<_>) = others.partition(|a| a.is_ipv6() == first.is_ipv6());
    let (mut order, mut families) = (vec![first], [different, alike]);
    while families.iter().any(|family| !family.is_empty()) {
        order.extend(families.iter_mut().filter_map(VecDeque::pop_front));
    }
    order
}

/// The address that answers first on one of `ports`; `None` if none does. Blocks the thread; each attempt has its own,
/// which ends by itself.
pub(super) fn first_to_answer(addresses: &[SocketAddr], ports: &[u16]) -> Option<SocketAddr> {
    let (tell, told) = channel();
    for &address in addresses.iter().take(TRIED_MAX) {
        let (tell, ports) = (tell.clone(), ports.to_vec());
        let thread = std::thread::Builder::new().name("hfl-connect".into()).stack_size(STACK_BYTES);
        let attempt = move || {
            let _ = tell.send(accepts(address, &ports).then_some(address));
        };
        let next_at = Instant::now() + if thread.spawn(attempt).is_ok() { APART } else { Duration::ZERO };
        // Until one has failed, or it is time for the next one.
        if let Ok(Some(first)) = told.recv_timeout(next_at.saturating_duration_since(Instant::now())) {
            return Some(first);
        }
    }
    drop(tell);
    told.iter().flatten().next()
}

/// Whether the address accepts a connection on one of `ports`.
fn accepts(mut address: SocketAddr, ports: &[u16]) -> bool {
    ports.iter().any(|&port| {
        address.set_port(port);
        TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| SocketAddr::new(text.parse().expect("an address"), 0)).collect()
    }

    #[test]
    fn families_alternate_and_what_worked_leads() {
        let all = addresses(&["2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1", "192.0.2.2"]);
        let expected = ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "2001:db8::3"];
        assert_eq!(in_order(&all, None), addresses(&expected));
        let expected = ["192.0.2.2", "2001:db8::1", "192.0.2.1", "2001:db8::2", "2001:db8::3"];
        assert_eq!(in_order(&all, Some(all[4])), addresses(&expected));
        assert_eq!(in_order(&all[..2], Some(all[4])), &all[..2], "an address that it has no more");
        assert!(in_order(&[], Some(all[4])).is_empty());
    }
}
