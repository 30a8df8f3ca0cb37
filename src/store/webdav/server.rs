//! Single requests: URL, credentials, deadline, and the meaning of error responses.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::LOCATION;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use tokio::time::{Instant, timeout, timeout_at};

use crate::store::Secret;
use crate::store::http::sentence;
use crate::store::{StoreError, StoreErrorKind};

/// Deadline of a request with next to no data.
const PATIENCE: Duration = Duration::from_secs(30);
/// First pause before a retry, doubled each time; retries stop once it reaches the second value.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(800);
/// The slowest transfer rate worth waiting for.
const BYTES_PER_SECOND_MIN: u64 = 16 << 10;

/// The server and its base collection.
#[derive(Debug)]
pub(super) struct Server {
    pub client: Client,
    /// With a trailing slash, without credentials.
    pub base: Url,
    pub user: Option<String>,
    pub password: Option<Secret>,
}

impl Server {
    /// The URL of `at`: a path below the base, or from the server's root if it begins with a slash.
    pub(super) fn url(&self, at: &str) -> String {
        self.base.join(at).map_or_else(|_| format!("{}{at}", self.base), String::from)
    }

    /// A request for `at`, with the credentials sent at once: waiting for a challenge would send every body twice.
    pub(super) fn request(&self, method: &str, at: &str) -> Result<RequestBuilder, StoreError> {
        let method =
            Method::from_bytes(method.as_bytes()).map_err(|e| self.error(at, StoreErrorKind::Other, e.to_string()))?;
        let request = self.client.request(method, self.url(at));
        Ok(match &self.user {
            Some(user) => request.basic_auth(user, self.password.as_ref().map(Secret::reveal)),
            None => request,
        })
    }

    /// Sends a request with a body of `bytes` and waits for the response to begin. Retries if the server closed a
    /// kept-alive connection, or if it reports a lock (Go's WebDAV locks resources during each request).
    pub(super) async fn send(&self, mut request: RequestBuilder, at: &str, bytes: u64) -> Result<Response, StoreError> {
        let mut pause = PAUSE_MIN;
        loop {
            let again = request.try_clone().filter(|_| pause < PAUSE_MAX);
            let sent = timeout(patience(bytes), request.send()).await;
            let transient = match &sent {
                Ok(Ok(answer)) => answer.status() == StatusCode::LOCKED,
                Ok(Err(e)) => e.is_request() && !e.is_connect() && !e.is_timeout(),
                Err(_) => false,
            };
            match again {
                Some(again) if transient => request = again,
                _ => {
                    let answer = sent.map_err(|_| "timed out".to_owned()).and_then(|s| s.map_err(|e| sentence(&e)));
                    return answer.map_err(|why| self.error(at, StoreErrorKind::Unreachable, why));
                }
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// Reads the body of a response, of at most `max_bytes`.
    pub(super) async fn body(&self, at: &str, mut answer: Response, max_bytes: u64) -> Result<Bytes, StoreError> {
        let too_long = || self.error(at, StoreErrorKind::TooLong, format!("more than {max_bytes} bytes"));
        let broken = |why: String| self.error(at, StoreErrorKind::Unreachable, why);
        let announced = answer.content_length();
        if announced.is_some_and(|length| length > max_bytes) {
            return Err(too_long());
        }
        let started = Instant::now();
        // Announcing a length costs a server nothing: it is trusted up to 64 KiB only.
        let mut body = BytesMut::with_capacity(announced.unwrap_or(0).min(64 << 10) as usize);
        loop {
            let chunk = timeout_at(started + patience(body.len() as u64), answer.chunk()).await;
            let chunk = chunk.map_err(|_| broken("timed out".into()))?.map_err(|e| broken(sentence(&e)))?;
            let Some(chunk) = chunk else { return Ok(body.freeze()) };
            if (body.len() + chunk.len()) as u64 > max_bytes {
                return Err(too_long());
            }
            body.extend_from_slice(&chunk);
        }
    }

    /// Deletes the resource at `at`; a missing one is not an error.
    pub(super) async fn delete(&self, at: &str) -> Result<(), StoreError> {
        let answer = self.send(self.request("DELETE", at)?, at, 0).await?;
        match answer.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(()),
            // A multi-status means that some of it still exists.
            status if status.is_success() && status != StatusCode::MULTI_STATUS => Ok(()),
            _ => Err(self.refused("DELETE", at, &answer)),
        }
    }

    pub(super) fn error(&self, at: &str, kind: StoreErrorKind, why: impl Into<String>) -> StoreError {
        StoreError::whole(&self.url(at), kind, why)
    }

    /// The error for an unsuccessful response.
    pub(super) fn refused(&self, method: &str, at: &str, answer: &Response) -> StoreError {
        let status = answer.status();
        let said = format!("the server answered {status}");
        let (kind, why) = match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => (StoreErrorKind::NotFound, said),
            StatusCode::UNAUTHORIZED if self.user.is_some() => {
                (StoreErrorKind::Denied, format!("{said}: it does not take this user with this password"))
            }
            StatusCode::UNAUTHORIZED => (StoreErrorKind::Denied, format!("{said}: it asks for a user and a password")),
            StatusCode::FORBIDDEN => (StoreErrorKind::Denied, format!("{said} to {method}")),
            StatusCode::INSUFFICIENT_STORAGE => (StoreErrorKind::Full, format!("{said}: its disk or quota is full")),
            StatusCode::PAYLOAD_TOO_LARGE => {
                let limits = "client_max_body_size of nginx, LimitRequestBody of Apache";
                (StoreErrorKind::Other, format!("{said}: raise the server's limit on bodies ({limits})"))
            }
            StatusCode::LOCKED => (StoreErrorKind::Locked, format!("{said}: another WebDAV client holds it")),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                (StoreErrorKind::Protocol, format!("this server does not speak WebDAV here ({status} to {method})"))
            }
            StatusCode::BAD_GATEWAY if method == "MOVE" => {
                let why = "it takes the destination for another server's; does a proxy hide its real URL from it?";
                (StoreErrorKind::Unreachable, format!("{said} to MOVE: {why}"))
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => (StoreErrorKind::Unreachable, said),
            status if status.is_redirection() => (StoreErrorKind::Protocol, redirected(method, answer)),
            StatusCode::INTERNAL_SERVER_ERROR if matches!(method, "PUT" | "MKCOL" | "MOVE") => {
                let why = "it may not be allowed to write there; its error log says more";
                (StoreErrorKind::Unreachable, format!("{said} to {method}: {why}"))
            }
            status if status.is_server_error() => (StoreErrorKind::Unreachable, format!("{said} to {method}")),
            _ => (StoreErrorKind::Protocol, format!("{said} to {method}")),
        };
        self.error(at, kind, why)
    }
}

/// Redirects of writes are not followed: whether the target is right is up to the author of mirrors.toml. The message
/// contains only its scheme and host.
fn redirected(method: &str, answer: &Response) -> String {
    let location = answer.headers().get(LOCATION).and_then(|l| l.to_str().ok()).and_then(|l| l.parse::<Url>().ok());
    let place = location.and_then(|url| Some(format!(" to {}://{}", url.scheme(), url.host_str()?)));
    let place = place.unwrap_or_default();
    format!("the server redirects {method}{place}, which is not followed; write the place itself into mirrors.toml")
}

fn patience(bytes: u64) -> Duration {
    PATIENCE + Duration::from_secs(bytes / BYTES_PER_SECOND_MIN)
}
