//! Read-only HTTP access to a mirror, as clients use it.
//!
//! Bodies are taken as sent, never decompressed. Size and time are bounded: whatever a server does, every request ends.

mod addresses;
mod client;
mod connections;
mod names;
mod unprocessed;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use reqwest::header::{CACHE_CONTROL, CONTENT_ENCODING, RETRY_AFTER};
use reqwest::{Response, StatusCode};

use super::{Fetch, Freshness, StoreError, StoreErrorKind};
use crate::format::layout::RepoPath;
use crate::format::url::BaseUrl;

pub use client::{HttpClient, HttpOptions};
#[cfg(feature = "webdav")]
pub(super) use client::{builder, certificates, connects_to};
use connections::Connections;
#[cfg(feature = "webdav")]
pub(super) use names::Names;
use unprocessed::is_unprocessed;

/// Deadline of a response, unless data arrives at least at [`SLOWEST_BYTES_PER_S`]: then the connection is merely slow.
const ANSWER_TIME: Duration = Duration::from_secs(20);
/// The lowest acceptable transfer rate, see [`ANSWER_TIME`].
pub const SLOWEST_BYTES_PER_S: u64 = 4 << 10;
/// Upper limit on a server's `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);
/// How often a request is sent again that the server did not look at. On a connection that takes five requests, many at
/// once are turned away several times.
const UNPROCESSED_MAX: u32 = 32;

/// One mirror, by its public URL.
#[derive(Debug, Clone)]
pub struct Http {
    client: HttpClient,
    base: Arc<BaseUrl>,
    connections: Arc<Connections>,
}

impl Http {
    /// The mirror at `base`.
    pub fn new(client: HttpClient, base: BaseUrl) -> Self {
        client.connects_to(&base);
        Self { client, base: Arc::new(base), connections: Arc::default() }
    }

    fn error(&self, path: &RepoPath, kind: StoreErrorKind, why: impl Into<String>) -> StoreError {
        StoreError::at(self.base.as_str(), path, kind, why)
    }

    fn transport_error(&self, path: &RepoPath, error: &reqwest::Error) -> StoreError {
        let kind = if error.is_redirect() { StoreErrorKind::Protocol } else { StoreErrorKind::Unreachable };
        self.error(path, kind, sentence(error))
    }

    fn check_status(&self, path: &RepoPath, answer: &Response) -> Result<(), StoreError> {
        let kind = match answer.status() {
            StatusCode::OK => return Ok(()),
            StatusCode::NOT_FOUND | StatusCode::GONE => StoreErrorKind::NotFound,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => StoreErrorKind::Denied,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => StoreErrorKind::Unreachable,
            status if status.is_server_error() => StoreErrorKind::Unreachable,
            _ => StoreErrorKind::Protocol,
        };
        let error = self.error(path, kind, format!("the server answered {}", answer.status()));
        Err(error.retry_after(retry_after(answer)))
    }

    /// Objects are stored without content encoding. A gzip label may be a server's mistake or true; the reader can tell
    /// from the bytes. Any other label is an error.
    fn check_encoding(&self, path: &RepoPath, answer: &Response) -> Result<(), StoreError> {
        let mut labels = answer.headers().get_all(CONTENT_ENCODING).iter().map(|label| label.to_str().unwrap_or("?"));
        match (labels.next().map(str::trim), labels.next()) {
            (None, _) | (Some("" | "identity" | "gzip" | "x-gzip"), None) => Ok(()),
            (Some(label), _) => {
                let label: String = label.chars().take(40).filter(|c| !c.is_control()).collect();
                Err(self.error(path, StoreErrorKind::Protocol, format!("sent with Content-Encoding {label}")))
            }
        }
    }

    /// Fails if a body arrives too slowly to be worth waiting for.
    fn check_rate(&self, path: &RepoPath, started: Instant, bytes: usize) -> Result<(), StoreError> {
        let took = started.elapsed();
        if took < ANSWER_TIME || bytes as u64 >= took.as_secs() * SLOWEST_BYTES_PER_S {
            return Ok(());
        }
        let why = format!("only {bytes} bytes in {} s", took.as_secs());
        Err(self.error(path, StoreErrorKind::Unreachable, why))
    }

    async fn body(&self, path: &RepoPath, mut answer: Response, max_bytes: u64) -> Result<Bytes, StoreError> {
        let started = Instant::now();
        let too_long = || self.error(path, StoreErrorKind::TooLong, format!("more than {max_bytes} bytes"));
        let announced = answer.content_length();
        if announced.is_some_and(|length| length > max_bytes) {
            return Err(too_long());
        }
        // Copied to a buffer of exact size even if one chunk is the whole body: a chunk keeps its connection's buffer
        // alive.
        let mut body = BytesMut::new();
        let broken = |e: reqwest::Error| {
            let error = self.transport_error(path, &e);
            if e.is_timeout() { error } else { error.cut() }
        };
        while let Some(chunk) = answer.chunk().await.map_err(broken)? {
            if (body.len() + chunk.len()) as u64 > max_bytes {
                return Err(too_long());
            }
            if body.is_empty() {
                // Only once data arrives: announcing a length costs a server nothing.
                body.reserve(announced.unwrap_or(0) as usize);
            }
            body.extend_from_slice(&chunk);
            self.check_rate(path, started, body.len())?;
        }
        Ok(body.freeze())
    }

    /// Sends a request, and again as long as the server says that it did not look at it.
    async fn ask(&self, path: &RepoPath, freshness: Freshness) -> Result<Response, reqwest::Error> {
        let mut unprocessed = 0;
        loop {
            let mut request = self.client.0.get(self.base.join(path));
            if freshness == Freshness::Confirmed {
                request = request.header(CACHE_CONTROL, "no-cache");
            }
            match request.send().await {
                Err(e) if unprocessed < UNPROCESSED_MAX && is_unprocessed(&e) => unprocessed += 1,
                Err(e) => {
                    if e.is_connect() {
                        e.url().iter().for_each(|url| self.client.doubt(url));
                    }
                    return Err(e);
                }
                answer => return answer,
            }
        }
    }

    async fn answer(&self, path: &RepoPath, max_bytes: u64, freshness: Freshness) -> Result<Bytes, StoreError> {
        let turn = self.connections.turn().await;
        let answer = self.ask(path, freshness).await.map_err(|e| self.transport_error(path, &e))?;
        self.connections.learn(&answer);
        // The server has taken the connection out of its queue; how long the body takes is a matter of the way to it.
        drop(turn);
        self.check_status(path, &answer)?;
        self.check_encoding(path, &answer)?;
        self.body(path, answer, max_bytes).await
    }
}

/// The server's `Retry-After`, if given in seconds.
fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// The innermost cause of an HTTP library error; the outer levels only repeat it.
pub(super) fn sentence(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "timed out".into();
    }
    let mut reason: &dyn std::error::Error = error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    let text = reason.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[async_trait]
impl Fetch for Http {
    async fn get_with(&self, path: &RepoPath, max_bytes: u64, freshness: Freshness) -> Result<Bytes, StoreError> {
        let time = ANSWER_TIME + Duration::from_secs(max_bytes / SLOWEST_BYTES_PER_S);
        let late = |_| self.error(path, StoreErrorKind::Unreachable, format!("no answer within {} s", time.as_secs()));
        tokio::time::timeout(time, self.answer(path, max_bytes, freshness)).await.unwrap_or_else(|e| Err(late(e)))
    }

    fn location(&self) -> &str {
        self.base.as_str()
    }
}
