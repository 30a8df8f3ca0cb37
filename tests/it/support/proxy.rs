//! A TCP relay that simulates a bad network: latency, low bandwidth, resets, stalls, refused
//! connections, 503 answers.
//!
//! The faults are set at run time, from any thread, through [`Proxy::faults`]. Latency is a delay line
//! and costs no throughput. All connections of one proxy share its link in each direction.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use crate::support::lab::Random;

const CHUNK_BYTES: usize = 8 << 10;
/// Maximum chunks in flight in one direction of a connection: more than any test's rate times its delay.
const CHUNKS_MAX: usize = 4096;
/// How far a link may catch up after a late timer.
const SLACK: Duration = Duration::from_millis(3);

/// A relay on its own port; stopped on drop.
pub struct Proxy {
    address: SocketAddr,
    faults: Arc<Faults>,
    runtime: Option<Runtime>,
}

/// The faults of a proxy, and its counters.
pub struct Faults {
    settings: watch::Sender<Settings>,
    links: [Link; 2],
    connections: AtomicU64,
    bytes: [AtomicU64; 2],
    /// Whether the listening socket is closed.
    deaf: AtomicBool,
}

#[derive(Debug, Clone, Default)]
struct Settings {
    delay: [Duration; 2],
    rate: [Option<u64>; 2],
    reset_after: [Option<Range<u64>>; 2],
    stalled: bool,
    refusing: bool,
    unavailable: Option<u64>,
    /// Connections of an older epoch are reset.
    epoch: u64,
}

/// When the link in one direction is free again.
#[derive(Default)]
struct Link(Mutex<Option<Instant>>);

const UP: usize = 0;
const DOWN: usize = 1;

impl Proxy {
    /// Starts a proxy that relays everything to `upstream`, without faults.
    pub fn start(upstream: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = crate::support::mounting::listener(&runtime);
        let address = listener.local_addr().unwrap();
        let (settings, links, connections, bytes, deaf) = Default::default();
        let faults = Arc::new(Faults { settings, links, connections, bytes, deaf });
        runtime.spawn(listen(listener, upstream, Arc::clone(&faults)));
        Self { address, faults, runtime: Some(runtime) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn faults(&self) -> &Faults {
        &self.faults
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Faults {
    /// Sets the latency in each direction. A new connection waits for one round trip before its first
    /// byte is sent.
    pub fn delay(&self, up: Duration, down: Duration) {
        self.settings.send_modify(|s| s.delay = [up, down]);
    }

    /// Limits the bytes per second in each direction, over all connections.
    pub fn rate(&self, up: Option<u64>, down: Option<u64>) {
        self.settings.send_modify(|s| s.rate = [up, down]);
    }

    /// Resets each new connection after it has carried a random number of bytes in this range
    /// downstream.
    pub fn reset_after(&self, bytes: Option<Range<u64>>) {
        self.settings.send_modify(|s| s.reset_after[DOWN] = bytes);
    }

    /// Like [`Faults::reset_after`], for bytes upstream.
    pub fn reset_after_sent(&self, bytes: Option<Range<u64>>) {
        self.settings.send_modify(|s| s.reset_after[UP] = bytes);
    }

    /// Resets all connections that are open now.
    pub fn reset_all(&self) {
        self.settings.send_modify(|s| s.epoch += 1);
    }

    /// Stops all traffic in both directions, or resumes it.
    pub fn stall(&self, stalled: bool) {
        self.settings.send_modify(|s| s.stalled = stalled);
    }

    /// Closes the listening socket and resets open connections, or opens it again. Returns once this has
    /// happened.
    pub fn refuse(&self, refusing: bool) {
        self.settings.send_modify(|s| (s.refusing, s.epoch) = (refusing, s.epoch + 1));
        while self.deaf.load(Relaxed) != refusing {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Answers every request with 503 and this Retry-After in seconds; `None` ends this.
    pub fn unavailable(&self, retry_after_s: Option<u64>) {
        self.settings.send_modify(|s| (s.unavailable, s.epoch) = (retry_after_s, s.epoch + 1));
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// Bytes relayed so far, up and down.
    pub fn bytes(&self) -> (u64, u64) {
        (self.bytes[UP].load(Relaxed), self.bytes[DOWN].load(Relaxed))
    }
}

impl Link {
    /// When the last of `bytes` has been sent, if sending starts as soon as the link is free.
    fn reserve(&self, bytes: usize, rate: Option<u64>) -> Instant {
        let now = Instant::now();
        let Some(rate) = rate else { return now };
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(SLACK).unwrap_or(now);
        let end = free.unwrap_or(now).max(earliest) + Duration::from_secs_f64(bytes as f64 / rate as f64);
        *free = Some(end);
        end
    }
}

async fn listen(listener: TcpListener, upstream: SocketAddr, faults: Arc<Faults>) {
    let address = listener.local_addr().unwrap();
    let (mut listener, mut settings) = (Some(listener), faults.settings.subscribe());
    loop {
        let refusing = settings.borrow_and_update().refusing;
        if refusing {
            listener = None;
        } else if listener.is_none() {
            listener = Some(TcpListener::bind(address).await.expect("the same port again"));
        }
        faults.deaf.store(refusing, Relaxed);
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = settings.changed() => {}
            Ok((client, _)) = accept => {
                tokio::spawn(connection(client, upstream, Arc::clone(&faults)));
            }
        }
    }
}

async fn connection(client: TcpStream, upstream: SocketAddr, faults: Arc<Faults>) {
    let number = faults.connections.fetch_add(1, Relaxed);
    let mut settings = faults.settings.subscribe();
    let now = settings.borrow_and_update().clone();
    let changed = settings.wait_for(|s| s.epoch != now.epoch);
    if let Some(seconds) = now.unavailable {
        tokio::select! { _ = changed => {}, () = refuse_all(client, seconds) => {} }
        return;
    }
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, mut client_write) = client.into_split();
    let (server_read, mut server_write) = server.into_split();
    let within = |bytes: Range<u64>| bytes.start + Random(number).below(bytes.end - bytes.start);
    let [sent, received] = now.reset_after.map(|bytes| bytes.map_or(u64::MAX, within));
    let handshake = now.delay[UP] + now.delay[DOWN];
    let up = pump(&faults, UP, client_read, &mut server_write, handshake, sent);
    let down = pump(&faults, DOWN, server_read, &mut client_write, Duration::ZERO, received);
    let reset = tokio::select! {
        _ = changed => true,
        ended = async { tokio::try_join!(up, down) } => ended.is_err(),
    };
    if reset {
        let _ = client_write.as_ref().set_zero_linger();
        client_write.forget();
    }
}

/// Answers each request of a connection with 503.
async fn refuse_all(mut client: TcpStream, seconds: u64) {
    let answer = format!("HTTP/1.1 503 Service Unavailable\r\nRetry-After: {seconds}\r\nContent-Length: 0\r\n\r\n");
    let (mut asked, mut chunk, mut body) = (Vec::new(), [0; 4096], 0);
    while let Ok(length @ 1..) = client.read(&mut chunk).await {
        asked.extend_from_slice(&chunk[..length]);
        loop {
            let skipped = asked.len().min(body);
            asked.drain(..skipped);
            body -= skipped;
            let Some(end) = asked.windows(4).position(|window| window == b"\r\n\r\n") else { break };
            let head = String::from_utf8_lossy(&asked[..end]).to_ascii_lowercase();
            let announced = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            body = announced.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
            asked.drain(..end + 4);
            let _ = client.write_all(answer.as_bytes()).await;
        }
    }
}

/// Relays one direction until it ends. Returns an error if the connection is to be reset.
async fn pump(
    faults: &Faults,
    way: usize,
    mut from: OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut extra: Duration,
    limit: u64,
) -> std::io::Result<()> {
    let (send, mut arrive) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    let mut settings = faults.settings.subscribe();
    let take = async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        while let length @ 1.. = from.read(&mut chunk).await? {
            let now = faults.settings.borrow().clone();
            let left = faults.links[way].reserve(length, now.rate[way]);
            tokio::time::sleep_until(left.into()).await;
            let due = Instant::now() + now.delay[way] + std::mem::take(&mut extra);
            let _ = send.send((due, chunk[..length].to_vec())).await;
        }
        Ok(())
    };
    let give = async {
        let mut left = limit;
        while let Some((due, mut chunk)) = arrive.recv().await {
            tokio::time::sleep_until(due.into()).await;
            let _ = settings.wait_for(|s| !s.stalled).await;
            chunk.truncate(left.min(chunk.len() as u64) as usize);
            faults.bytes[way].fetch_add(chunk.len() as u64, Relaxed);
            to.write_all(&chunk).await?;
            left -= chunk.len() as u64;
            if left == 0 {
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
        }
        to.shutdown().await
    };
    tokio::try_join!(take, give).map(|_: ((), ())| ())
}
