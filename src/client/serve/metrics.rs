//! A small web server for one page: the status of a mount, for Prometheus.
//!
//! It answers every request alike and keeps no connection alive. The number of connections and their time are limited,
//! so that a client cannot hold up the mount.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::client::status::Status;

/// Connections served at the same time.
const CONNECTIONS_MAX: usize = 4;
/// Time limit of a connection.
const CONNECTION_TIME: Duration = Duration::from_secs(5);
/// The most bytes of a request that are searched for its end.
const REQUEST_MAX_BYTES: usize = 8 << 10;
/// Pause after the system failed to accept a connection.
const PAUSE: Duration = Duration::from_millis(200);

/// Starts to listen, and returns the address; serves until the runtime ends.
///
/// # Errors
/// The address cannot be bound.
pub async fn serve(address: SocketAddr, status: Arc<Status>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::spawn(async move {
        while let Ok(place) = Arc::clone(&room).acquire_owned().await {
            let Ok((client, _)) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let status = Arc::clone(&status);
            tokio::spawn(async move {
                let _ = tokio::time::timeout(CONNECTION_TIME, answer(client, &status)).await;
                drop(place);
            });
        }
    });
    Ok(address)
}

async fn answer(mut client: TcpStream, status: &Status) -> std::io::Result<()> {
    let (mut request, mut chunk) = (Vec::new(), [0; 1024]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST_MAX_BYTES {
        let length = client.read(&mut chunk).await?;
        if length == 0 {
            return Ok(());
        }
        request.extend_from_slice(&chunk[..length]);
    }
    let body = status.to_prometheus();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n";
    client.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    client.shutdown().await
}
