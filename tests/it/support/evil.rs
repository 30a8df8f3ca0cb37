//! A web server with every kind of fault, selected by the first component of the path. Only requests for
//! blocks and deltas get faulty answers, so that a client reaches the point where it requests them. With
//! the prefix `all-` heads and indexes are faulty too, with `index-` only indexes, with `deltas-` only
//! deltas.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::support::lab::Random;

/// Faults that prevent any client from getting a block.
pub const FAULTS: [&str; 32] = [
    "404",
    "403",
    "410",
    "500",
    "busy",
    "reset",
    "reset-middle",
    "stall",
    "stall-body",
    "trickle",
    "trickle-headers",
    "short",
    "longer",
    "endless",
    "endless-headers",
    "wrong",
    "bit",
    "html",
    "br",
    "deflate",
    "two-encodings",
    "gzip-of-nothing",
    "loop",
    "file",
    "ftp",
    "empty",
    "206",
    "garbage",
    "bomb",
    "other",
    "trailing",
    "204",
];
/// Unusual but valid answers, which a client must handle.
pub const ODDITIES: [&str; 6] = ["good", "gzip-label", "gzipped", "redirect", "no-length", "chunked"];
/// A good server, except for 5 % of its answers, each of which is one of [`FAULTS`].
pub const SOMETIMES: &str = "sometimes";

/// The server; stopped on drop.
pub struct Evil {
    address: SocketAddr,
    runtime: Option<Runtime>,
    faults: Arc<AtomicU64>,
}

impl Evil {
    /// Serves the repository in `directory` with every fault.
    pub fn start(directory: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = crate::support::mounting::listener(&runtime);
        let (address, faults) = (listener.local_addr().unwrap(), Arc::<AtomicU64>::default());
        let server = Server { directory: directory.to_owned(), faults: Arc::clone(&faults) };
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let _ = client.set_nodelay(true);
                let server = server.clone();
                tokio::spawn(async move { server.connection(client).await });
            }
        });
        Self { address, runtime: Some(runtime), faults }
    }

    /// Base URL with this behaviour, without a trailing slash.
    pub fn url(&self, behaviour: &str) -> String {
        format!("http://{}/{behaviour}", self.address)
    }

    /// Number of intentionally faulty answers.
    pub fn faults(&self) -> u64 {
        self.faults.load(Relaxed)
    }
}

impl Drop for Evil {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

#[derive(Clone)]
struct Server {
    directory: PathBuf,
    faults: Arc<AtomicU64>,
}

fn head(status: &str, headers: &str, length: usize) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n").into_bytes()
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = head(status, headers, body.len());
    answer.extend_from_slice(body);
    answer
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A small file that decompresses to 64 MiB of zeros.
fn bomb() -> &'static [u8] {
    static BOMB: OnceLock<Vec<u8>> = OnceLock::new();
    BOMB.get_or_init(|| {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; 64 << 20]).unwrap();
        encoder.finish().unwrap()
    })
}

/// The answer for a behaviour, if it is a complete answer on a connection that stays usable.
fn whole(behaviour: &str, path: &str, file: &[u8]) -> Option<Vec<u8>> {
    let wrong = |change: fn(&mut Vec<u8>)| {
        let mut file = file.to_vec();
        change(&mut file);
        answer("200 OK", "", &file)
    };
    let encoded = |labels: &str| answer("200 OK", labels, file);
    let location = |to: &str| answer("302 Found", &format!("Location: {to}\r\n"), b"");
    let portal = b"<html><head><title>Please log in</title></head><body>Welcome to the hotel</body></html>";
    Some(match behaviour {
        "good" => answer("200 OK", "", file),
        "404" => answer("404 Not Found", "", portal),
        "403" => answer("403 Forbidden", "", b"no"),
        "410" => answer("410 Gone", "", b""),
        "500" => answer("500 Internal Server Error", "", portal),
        "busy" => answer("503 Service Unavailable", "Retry-After: 1\r\n", b""),
        "204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "206" => answer("206 Partial Content", &format!("Content-Range: bytes 0-9/{}\r\n", file.len()), &file[..10]),
        "longer" => wrong(|file| file.resize(3 << 20, 7)),
        "trailing" => wrong(|file| file.extend_from_slice(b"\n\n")),
        "wrong" => wrong(|file| *file = Random(9).bytes(file.len())),
        "bit" => wrong(|file| {
            let middle = file.len() / 2;
            file[middle] ^= 16;
        }),
        "html" => answer("200 OK", "Content-Type: text/html\r\n", portal),
        "gzip-label" => encoded("Content-Encoding: gzip\r\n"),
        "gzipped" => answer("200 OK", "Content-Encoding: gzip\r\n", &gzip(file)),
        "gzip-of-nothing" => answer("200 OK", "Content-Encoding: gzip\r\n", &gzip(b"")),
        "br" => encoded("Content-Encoding: br\r\n"),
        "deflate" => encoded("Content-Encoding: deflate\r\n"),
        "two-encodings" => {
            let twice = gzip(&gzip(file));
            answer("200 OK", "Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n", &twice)
        }
        "loop" => location(&format!("/loop/{path}")),
        "file" => location("file:///etc/passwd"),
        "ftp" => location("ftp://127.0.0.1/blocks"),
        "redirect" => location(&format!("../../../good/{path}")),
        "empty" => answer("200 OK", "", b""),
        "bomb" => answer("200 OK", "", bomb()),
        "chunked" => {
            let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for chunk in file.chunks(1000) {
                answer.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                answer.extend_from_slice(chunk);
                answer.extend_from_slice(b"\r\n");
            }
            answer.extend_from_slice(b"0\r\n\r\n");
            answer
        }
        _ => return None,
    })
}

impl Server {
    async fn connection(&self, mut client: TcpStream) -> Option<()> {
        let (mut asked, mut chunk) = (Vec::new(), [0; 4096]);
        let mut random = Random(u64::from(client.peer_addr().ok()?.port()));
        loop {
            let length = client.read(&mut chunk).await.ok().filter(|&length| length > 0)?;
            asked.extend_from_slice(&chunk[..length]);
            if !asked.ends_with(b"\r\n\r\n") {
                continue;
            }
            let text = String::from_utf8(std::mem::take(&mut asked)).ok()?;
            let (behaviour, path) = text.split(' ').nth(1)?.strip_prefix('/')?.split_once('/')?;
            let Ok(file) = std::fs::read(self.directory.join(path)) else {
                client.write_all(&answer("404 Not Found", "", b"")).await.ok()?;
                continue;
            };
            let (behaviour, bad) = match behaviour.split_once('-') {
                Some(("all", behaviour)) => (behaviour, true),
                Some(("index", behaviour)) => (behaviour, path.starts_with("index/")),
                Some(("deltas", behaviour)) => (behaviour, path.starts_with("deltas/")),
                _ => (behaviour, path.starts_with("blocks/") || path.starts_with("deltas/")),
            };
            let behaviour = match (behaviour, bad) {
                (SOMETIMES, true) if random.below(20) == 0 => FAULTS[random.below(FAULTS.len() as u64) as usize],
                (SOMETIMES, _) | (_, false) => "good",
                (behaviour, true) => behaviour,
            };
            self.faults.fetch_add(u64::from(FAULTS.contains(&behaviour)), Relaxed);
            match behaviour {
                "other" => client.write_all(&answer("200 OK", "", &self.another(path)?)).await.ok()?,
                behaviour => match whole(behaviour, path, &file) {
                    Some(answer) => client.write_all(&answer).await.ok()?,
                    None => return odd(behaviour, client, &file).await,
                },
            }
        }
    }

    /// The file of a different block.
    fn another(&self, path: &str) -> Option<Vec<u8>> {
        let mut files = walkdir::WalkDir::new(self.directory.join("blocks")).into_iter().flatten();
        let other =
            files.find(|f| f.file_type().is_file() && !f.path().ends_with(Path::new(path).file_name().unwrap()));
        std::fs::read(other?.path()).ok()
    }
}

/// Behaviours that leave no usable connection.
async fn odd(behaviour: &str, mut client: TcpStream, file: &[u8]) -> Option<()> {
    let for_ever = Duration::from_secs(3600);
    let half = file.len() / 2;
    let ok = head("200 OK", "", file.len());
    match behaviour {
        "reset" => client.set_zero_linger().ok()?,
        "reset-middle" => {
            client.write_all(&[&ok, &file[..half]].concat()).await.ok()?;
            tokio::time::sleep(Duration::from_millis(20)).await;
            client.set_zero_linger().ok()?;
        }
        "stall" => tokio::time::sleep(for_ever).await,
        "stall-body" => {
            client.write_all(&[&ok, &file[..half]].concat()).await.ok()?;
            tokio::time::sleep(for_ever).await;
        }
        "trickle" | "trickle-headers" => {
            if behaviour == "trickle" {
                client.write_all(&ok).await.ok()?;
            }
            for byte in [&ok[..], file].concat() {
                client.write_all(&[byte]).await.ok()?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        "short" => client.write_all(&[&ok, &file[..half]].concat()).await.ok()?,
        "endless" => {
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
            while client.write_all(&[0x78; 4096]).await.is_ok() {}
        }
        "endless-headers" => {
            client.write_all(b"HTTP/1.1 200 OK\r\n").await.ok()?;
            while client.write_all(b"X-Header: and another one, and another one, and another one\r\n").await.is_ok() {}
        }
        "garbage" => client.write_all(b"\x16\x03\x01 this is no HTTP at all\r\n\r\n").await.ok()?,
        "no-length" => {
            client.write_all(&[b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", file].concat()).await.ok()?
        }
        other => panic!("no such behaviour: {other}"),
    }
    Some(())
}
