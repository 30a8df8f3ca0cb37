//! Reading a mirror over HTTP, the way clients do.
//!
//! Bodies are taken as they were sent, never decoded, and never read further than the reader wants, neither in bytes nor
//! in time: whatever a server does, an answer ends.

mod client;
mod names;

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
pub(super) use client::{builder, certificates};

/// The time for an answer, unless its bytes come at this rate at least: then it is only a slow connection.
const ANSWER_TIME: Duration = Duration::from_secs(20);
/// See [`ANSWER_TIME`].
pub const SLOWEST_BYTES_PER_S: u64 = 4 << 10;
/// A server that asks for more patience than this gets no more.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// One mirror, by its public URL.
#[derive(Debug, Clone)]
pub struct Http {
    client: HttpClient,
    base: Arc<BaseUrl>,
}

impl Http {
    /// The mirror at `base`.
    pub fn new(client: HttpClient, base: BaseUrl) -> Self {
        Self { client, base: Arc::new(base) }
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

    /// Objects are stored as they are. A label of gzip may be a mistake of the server, or true: the reader can tell by
    /// the bytes. Any other is an answer to another question.
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

    /// A body that comes too slowly to be worth waiting for.
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
        // A copy of its own size even where one piece is the whole: a piece holds on to the buffer of its connection.
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
                // Not before: what a server announces costs nothing to announce.
                body.reserve(announced.unwrap_or(0) as usize);
            }
            body.extend_from_slice(&chunk);
            self.check_rate(path, started, body.len())?;
        }
        Ok(body.freeze())
    }

    async fn answer(&self, path: &RepoPath, max_bytes: u64, freshness: Freshness) -> Result<Bytes, StoreError> {
        let mut request = self.client.0.get(self.base.join(path));
        if freshness == Freshness::Confirmed {
            request = request.header(CACHE_CONTROL, "no-cache");
        }
        let answer = request.send().await.map_err(|e| self.transport_error(path, &e))?;
        self.check_status(path, &answer)?;
        self.check_encoding(path, &answer)?;
        self.body(path, answer, max_bytes).await
    }
}

/// The server's own word on when to come back, where it is given in seconds.
fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// The innermost reason of an error of the HTTP library, which repeats itself otherwise.
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
