//! A relay that makes a server far away, and cuts connections. To be replaced by the proxy that all drivers share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Relays connections until it is dropped.
pub struct Relay {
    pub address: SocketAddr,
    /// Bytes that may still go to the server; the one after them ends all connections.
    pub left: Arc<AtomicU64>,
    epoch: Arc<watch::Sender<u64>>,
}

impl Relay {
    /// A relay to `server` that holds back what goes either way by `delay`.
    pub async fn start(server: SocketAddr, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let left = Arc::new(AtomicU64::new(u64::MAX));
        let epoch = Arc::new(watch::Sender::new(0));
        let (limit, cut) = (Arc::clone(&left), Arc::clone(&epoch));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(upstream) = TcpStream::connect(server).await else { continue };
                let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
                let (limit, cut) = (Arc::clone(&limit), Arc::clone(&cut));
                tokio::spawn(async move {
                    let mut ended = cut.subscribe();
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), upstream.into_split());
                    tokio::select! {
                        () = one_way(from_client, to_server, delay, Some(&limit)) => {}
                        () = one_way(from_server, to_client, delay, None) => {}
                        _ = ended.changed() => {}
                    }
                    if limit.load(Ordering::Relaxed) == 0 {
                        cut.send_modify(|epoch| *epoch += 1);
                    }
                });
            }
        });
        Self { address, left, epoch }
    }

    /// Ends all connections of this moment.
    pub fn cut(&self) {
        self.epoch.send_modify(|epoch| *epoch += 1);
    }
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    delay: Duration,
    limit: Option<&AtomicU64>,
) {
    let (sender, mut line) = mpsc::channel::<(Instant, Vec<u8>)>(4096);
    let reading = async move {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if let Some(limit) = limit {
                let left = limit.load(Ordering::Relaxed);
                limit.store(left.saturating_sub(count as u64), Ordering::Relaxed);
                if left <= count as u64 {
                    return;
                }
            }
            if sender.send((Instant::now() + delay, buffer[..count].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, bytes)) = line.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}
