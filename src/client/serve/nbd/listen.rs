//! Accepts connections on a Unix socket or a TCP address, and serves each until it ends.
//!
//! A socket left behind by a killed server is replaced. A socket in use or a file of another kind is never replaced.
//! The socket is removed at the end, if it is still the same.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Export;
use super::handshake::shake;
use super::transmission::transmit;

/// Connections served at the same time; further ones wait.
const CONNECTIONS_MAX: usize = 32;
/// Connections waiting to be accepted.
const BACKLOG: u32 = 64;
/// Time limit of a handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Pause after the system failed to accept a connection.
const PAUSE: Duration = Duration::from_millis(200);

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// A Unix socket and its file.
    Unix(UnixListener, SocketFile),
    /// A TCP port.
    Tcp(TcpListener),
}

/// The file of a Unix socket, removed on drop.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

impl Listener {
    /// Listens on a Unix socket. Needs a runtime.
    ///
    /// # Errors
    /// Those of the system, and an existing file that must not be replaced.
    pub fn unix(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        match std::fs::symlink_metadata(&path) {
            Ok(meta) if !meta.file_type().is_socket() => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something there already"));
            }
            Ok(_) => match std::os::unix::net::UnixStream::connect(&path) {
                Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there already")),
                Err(_) => std::fs::remove_file(&path)?,
            },
            Err(_) => {}
        }
        let listener = UnixListener::bind(&path)?;
        let identity = identity(&path)?;
        Ok(Self::Unix(listener, SocketFile { path, identity }))
    }

    /// Listens on a TCP address. Needs a runtime.
    ///
    /// # Errors
    /// Those of the system.
    pub fn tcp(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        // Inherited by the connections: a client may be silent for days, but a dead one must be noticed.
        socket.set_keepalive(true)?;
        socket.bind(address)?;
        Ok(Self::Tcp(socket.listen(BACKLOG)?))
    }

    /// The URI of the export, as in doc/uri.md of the NBD project.
    pub fn uri(&self, export: &Export) -> String {
        match self {
            Self::Unix(_, file) => format!("nbd+unix:///{}?socket={}", export.name, escaped(&file.path)),
            Self::Tcp(listener) => {
                let address = listener.local_addr().map_or_else(|_| String::new(), |address| address.to_string());
                format!("nbd://{address}/{}", export.name)
            }
        }
    }

    /// Serves until this future is dropped.
    pub async fn serve(&self, export: Arc<Export>) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        while let Ok(place) = Arc::clone(&room).acquire_owned().await {
            while connections.try_join_next().is_some() {}
            let export = Arc::clone(&export);
            match self {
                Self::Unix(listener, _) => match listener.accept().await {
                    Ok((stream, _)) => {
                        connections.spawn(async move {
                            let _ = converse(stream, export).await;
                            drop(place);
                        });
                    }
                    Err(_) => tokio::time::sleep(PAUSE).await,
                },
                Self::Tcp(listener) => match listener.accept().await {
                    Ok((stream, _)) => {
                        let _ = stream.set_nodelay(true);
                        connections.spawn(async move {
                            let _ = converse(stream, export).await;
                            drop(place);
                        });
                    }
                    Err(_) => tokio::time::sleep(PAUSE).await,
                },
            }
        }
    }
}

/// Serves one connection to its end. Its errors concern only its client.
async fn converse<S>(mut stream: S, export: Arc<Export>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let agreed = tokio::time::timeout(HANDSHAKE_TIME, shake(&mut stream, &export)).await??;
    let Some(agreed) = agreed else { return Ok(()) };
    let (reader, writer) = tokio::io::split(stream);
    transmit(tokio::io::BufReader::new(reader), writer, export, agreed).await
}

/// Escapes a path for the query of a URI (RFC 3986).
fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(byte.into());
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}
