//! An HTTP relay in front of a mirror that silently drops some or all entries from listings, or delays
//! answers.
//!
//! Each connection carries one request. Everything except listings passes unchanged.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};
use std::time::Duration;

/// Which entries listings show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    All,
    /// Every second object or directory.
    Half,
    Nothing,
}

/// A relay on its own port.
pub struct Relay {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    shown: AtomicU8,
    left_out: AtomicU64,
    /// Delays in milliseconds of each DELETE and of each answer with an index.
    removal_ms: AtomicU64,
    index_ms: AtomicU64,
    ended: AtomicBool,
}

impl Relay {
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (address, state) = (listener.local_addr().unwrap(), Arc::new(State::default()));
        let relay = Self { address, state: Arc::clone(&state) };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if state.ended.load(Relaxed) {
                    break;
                }
                let state = Arc::clone(&state);
                // The client notices broken connections itself.
                std::thread::spawn(move || exchange(client, upstream, &state));
            }
        });
        relay
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn show(&self, shown: Shown) {
        self.state.shown.store(shown as u8, Relaxed);
    }

    /// Delays each DELETE.
    pub fn delay_removals(&self, milliseconds: u64) {
        self.state.removal_ms.store(milliseconds, Relaxed);
    }

    /// Delays each answer with an index.
    pub fn delay_indexes(&self, milliseconds: u64) {
        self.state.index_ms.store(milliseconds, Relaxed);
    }

    /// Number of listing entries dropped so far.
    pub fn left_out(&self) -> u64 {
        self.state.left_out.load(Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.ended.store(true, Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// Relays one request and its answer.
fn exchange(mut client: TcpStream, upstream: SocketAddr, state: &State) -> std::io::Result<()> {
    let (mut asked, mut chunk) = (Vec::new(), [0; 16 << 10]);
    let end = loop {
        let length = client.read(&mut chunk)?;
        asked.extend_from_slice(&chunk[..length]);
        match asked.windows(4).position(|window| window == b"\r\n\r\n") {
            Some(end) => break end,
            None if length == 0 => return Ok(()),
            None => {}
        }
    };
    let head = String::from_utf8_lossy(&asked[..end]).into_owned();
    let entry = entry(&head);
    if head.starts_with("DELETE ") {
        std::thread::sleep(Duration::from_millis(state.removal_ms.load(Relaxed)));
    }
    if head.starts_with("GET ") && head.lines().next().is_some_and(|line| line.contains(".idx ")) {
        std::thread::sleep(Duration::from_millis(state.index_ms.load(Relaxed)));
    }
    let mut server = TcpStream::connect(upstream)?;
    // HTTP/1.0 rules out a chunked answer.
    let head = if entry.is_some() { head.replacen(" HTTP/1.1\r\n", " HTTP/1.0\r\n", 1) } else { head };
    server.write_all(format!("{head}\r\nConnection: close").as_bytes())?;
    server.write_all(&asked[end..])?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    if let Some(entry) = entry {
        answer = cut(&answer, entry, state);
    }
    client.write_all(&answer)?;
    client.shutdown(Shutdown::Both)
}

/// The XML element of an entry, if the request asks for a listing.
fn entry(head: &str) -> Option<&'static str> {
    let line = head.lines().next().unwrap_or_default();
    match line.starts_with("PROPFIND ") {
        true => Some("D:response"),
        false => (line.starts_with("GET ") && line.contains("list-type=2")).then_some("Contents"),
    }
}

fn cut(answer: &[u8], entry: &str, state: &State) -> Vec<u8> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let (open, close) = (format!("<{entry}>"), format!("</{entry}>"));
    // The first resource of a multistatus is the collection itself.
    let always = usize::from(entry == "D:response");
    let (mut kept, mut rest, mut number) = (String::new(), body, 0);
    while let Some((before, after)) = rest.split_once(&open) {
        let (inner, next) = after.split_once(&close).expect("an entry that ends");
        kept += before;
        let shown = state.shown.load(Relaxed);
        let shown = number < always
            || shown == Shown::All as u8
            || (shown == Shown::Half as u8 && (number - always).is_multiple_of(2));
        match shown {
            true => kept += &format!("{open}{inner}{close}"),
            false => drop(state.left_out.fetch_add(1, Relaxed)),
        }
        (rest, number) = (next, number + 1);
    }
    kept += rest;
    let length = |line: &&str| !line.to_ascii_lowercase().starts_with("content-length:");
    let head: Vec<&str> = head.split("\r\n").filter(length).collect();
    format!("{}\r\nContent-Length: {}\r\n\r\n{kept}", head.join("\r\n"), kept.len()).into_bytes()
}
