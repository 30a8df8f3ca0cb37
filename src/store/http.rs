//! Reading a mirror over HTTP, the way clients do.
//!
//! Bodies are taken as they were sent, never decoded, and never read further than the reader wants. Redirects: at most
//! three, never from https to http. The certificates trusted are Mozilla's, built in, so that a client without a file
//! system to look them up in works too.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, Response, StatusCode};

use super::{Fetch, StoreError, StoreErrorKind};
use crate::layout::RepoPath;
use crate::url::BaseUrl;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest silence inside an answer.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);
const REDIRECTS_MAX: usize = 3;
const USER_AGENT: &str = concat!("hfl/", env!("CARGO_PKG_VERSION"));

/// Connections, shared by all mirrors.
#[derive(Debug, Clone)]
pub struct HttpClient(reqwest::Client);

impl HttpClient {
    /// A client with no connection open yet.
    ///
    /// # Errors
    /// When the TLS library cannot be set up.
    pub fn new() -> Result<Self, StoreError> {
        let client = builder(Vec::new()).read_timeout(STALL_TIMEOUT).redirect(Policy::custom(redirect)).build();
        client.map(Self).map_err(|e| StoreError::whole("https", StoreErrorKind::Other, sentence(&e)))
    }

    /// The object at a URL that is no mirror's, of at most `max_bytes`.
    ///
    /// # Errors
    /// A URL that is none, and whatever [`Fetch::get`] can meet.
    pub async fn get_url(&self, url: &str, max_bytes: u64) -> Result<Bytes, StoreError> {
        let wrong = |why: String| StoreError::whole(url, StoreErrorKind::Other, why);
        let (base, name) = url.rsplit_once('/').ok_or_else(|| wrong("not a URL".into()))?;
        let base = format!("{base}/").parse().map_err(|e: crate::url::UrlError| wrong(e.to_string()))?;
        let path = name.parse().map_err(|e: crate::layout::PathError| wrong(e.to_string()))?;
        Http::new(self.clone(), base).get(&path, max_bytes).await
    }
}

/// What every client of this program has in common; it trusts the authorities in `further` too.
pub(super) fn builder(further: Vec<Certificate>) -> reqwest::ClientBuilder {
    // Another user of the library may have installed the same provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().filter_map(|der| Certificate::from_der(der).ok());
    reqwest::Client::builder()
        .tls_certs_only(roots.chain(further))
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT_TIMEOUT)
        .referer(false)
        .tcp_nodelay(true)
}

fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let downgrade =
        attempt.previous().last().is_some_and(|u| u.scheme() == "https") && attempt.url().scheme() != "https";
    if attempt.previous().len() > REDIRECTS_MAX {
        return attempt.error("too many redirects");
    }
    if downgrade || !matches!(attempt.url().scheme(), "http" | "https") {
        return attempt.error("redirected away from https or http");
    }
    attempt.follow()
}

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
            status if status.is_server_error() => StoreErrorKind::Unreachable,
            _ => StoreErrorKind::Protocol,
        };
        Err(self.error(path, kind, format!("the server answered {}", answer.status())))
    }

    async fn body(&self, path: &RepoPath, mut answer: Response, max_bytes: u64) -> Result<Bytes, StoreError> {
        let too_long = || self.error(path, StoreErrorKind::TooLong, format!("more than {max_bytes} bytes"));
        let announced = answer.content_length();
        if announced.is_some_and(|length| length > max_bytes) {
            return Err(too_long());
        }
        // What a server announces costs nothing to announce: trust it for 64 KiB only.
        let mut body = BytesMut::with_capacity(announced.unwrap_or(0).min(64 << 10) as usize);
        while let Some(chunk) = answer.chunk().await.map_err(|e| self.transport_error(path, &e))? {
            if (body.len() + chunk.len()) as u64 > max_bytes {
                return Err(too_long());
            }
            if body.is_empty() && announced.is_some_and(|length| length == chunk.len() as u64) {
                return Ok(chunk);
            }
            if body.is_empty() {
                body.reserve(announced.unwrap_or(0) as usize);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
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
    async fn get(&self, path: &RepoPath, max_bytes: u64) -> Result<Bytes, StoreError> {
        let request = self.client.0.get(self.base.join(path)).send();
        let answer = request.await.map_err(|e| self.transport_error(path, &e))?;
        self.check_status(path, &answer)?;
        self.body(path, answer, max_bytes).await
    }

    fn location(&self) -> &str {
        self.base.as_str()
    }
}
