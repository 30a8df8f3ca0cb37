//! Finds out which address of a host works: all are tried at once, a little apart, each with the full connect timeout
//! (RFC 8305, "Happy Eyeballs").
//!
//! The HTTP library tries the addresses of a family one after the other, so one that drops packets would cost every
//! connection its timeout. It is given the address that works first instead.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// Connect timeout of one address; of a whole connection, it includes DNS lookup and TLS handshake.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between the starts of two attempts ("Connection Attempt Delay").
const APART: Duration = Duration::from_millis(250);
/// Addresses tried, at most: a name server may name many more.
const TRIED_MAX: usize = 32;

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

/// The address that answers first on one of `ports`; `None` if none does.
pub(super) async fn first_to_answer(addresses: Vec<SocketAddr>, ports: Vec<u16>) -> Option<SocketAddr> {
    let mut waiting: VecDeque<SocketAddr> = addresses.into_iter().take(TRIED_MAX).collect();
    let (mut attempts, mut next_at) = (JoinSet::new(), Instant::now());
    loop {
        tokio::select! {
            Some(ended) = attempts.join_next() => match ended {
                Ok(Some(address)) => return Some(address),
                _ => next_at = Instant::now(),
            },
            () = sleep_until(next_at), if !waiting.is_empty() => {
                let address = waiting.pop_front()?;
                attempts.spawn(attempt(address, ports.clone()));
                next_at = Instant::now() + APART;
            }
            else => return None,
        }
    }
}

/// `address`, if it accepts a connection on one of `ports`.
async fn attempt(address: SocketAddr, ports: Vec<u16>) -> Option<SocketAddr> {
    for port in ports {
        let mut place = address;
        place.set_port(port);
        if let Ok(Ok(_)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(place)).await {
            return Some(address);
        }
    }
    None
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
