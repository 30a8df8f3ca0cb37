//! The connections of a process: how they are made, what they trust, and how long they wait.
//!
//! HTTP/2 where a server offers it, kept-alive HTTP/1.1 otherwise; a proxy where one is named, by an option or by
//! `http_proxy`, `https_proxy` and `no_proxy`. Redirects: at most three, never from https to http. The certificates
//! trusted are Mozilla's, built in, so that a client without a file system to look them up in works too.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, NoProxy, Proxy};

use super::names::Names;
use super::{Http, sentence};
use crate::format::url::BaseUrl;
use crate::store::{Fetch as _, StoreError, StoreErrorKind};

/// How long a connection may take, with the look-up of its name and its TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an HTTP/2 connection may be silent under use before it is asked for a sign of life, and then for that.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);
const REDIRECTS_MAX: usize = 3;
/// A bundle of all public authorities has a quarter of this.
const CA_FILE_MAX_BYTES: u64 = 1 << 20;
/// Bytes of headers of an HTTP/2 answer; the library's own limit for HTTP/1.1 is about 400 KB.
const HEADERS_MAX_BYTES: u32 = 64 << 10;
const USER_AGENT: &str = concat!("hfl/", env!("CARGO_PKG_VERSION"));

/// How connections are made.
#[derive(Clone)]
pub struct HttpOptions {
    /// A proxy for everything that `no_proxy` does not name, `http(s)://[USER:PASSWORD@]HOST:PORT`; without one the
    /// environment decides.
    pub proxy: Option<String>,
    /// The certificates (PEM) of private authorities, trusted besides the public ones.
    pub ca_file: Option<PathBuf>,
    /// The longest silence before and inside an answer.
    pub silence_max: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self { proxy: None, ca_file: None, silence_max: Duration::from_secs(10) }
    }
}

/// A proxy may have a password.
impl fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proxy = self.proxy.as_ref().map(|_| "...");
        let mut shown = f.debug_struct("HttpOptions");
        shown.field("proxy", &proxy).field("ca_file", &self.ca_file).field("silence_max", &self.silence_max).finish()
    }
}

/// Connections, shared by all mirrors.
#[derive(Debug, Clone)]
pub struct HttpClient(pub(super) reqwest::Client, Names);

impl HttpClient {
    /// A client with no connection open yet.
    ///
    /// # Errors
    /// When the TLS library cannot be set up.
    pub fn new() -> Result<Self, StoreError> {
        Self::with(&HttpOptions::default())
    }

    /// The same, with these options.
    ///
    /// # Errors
    /// A proxy that is none, or a file without certificates, too.
    pub fn with(options: &HttpOptions) -> Result<Self, StoreError> {
        let names = Names::default();
        let further = options.ca_file.as_deref().map(certificates).transpose()?.unwrap_or_default();
        let mut builder = builder(further)
            .dns_resolver(Arc::new(names.clone()))
            .default_headers(HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]))
            .read_timeout(options.silence_max)
            .http2_keep_alive_interval(SIGN_OF_LIFE)
            .http2_keep_alive_timeout(SIGN_OF_LIFE)
            .http2_max_header_list_size(HEADERS_MAX_BYTES)
            .redirect(Policy::custom(redirect));
        if let Some(url) = &options.proxy {
            builder = builder.proxy(proxy(url)?);
        }
        builder
            .build()
            .map(|client| Self(client, names))
            .map_err(|e| StoreError::whole("https", StoreErrorKind::Other, sentence(&e)))
    }

    /// Looks up the hosts of these mirrors, all at once. One that is not found may be found later.
    pub async fn look_up(&self, mirrors: impl Iterator<Item = &BaseUrl>) {
        let mut asked = tokio::task::JoinSet::new();
        let url = |mirror: &BaseUrl| reqwest::Url::parse(mirror.as_str()).ok();
        for url in mirrors.filter_map(url) {
            if let Some(host) = url.domain() {
                asked.spawn(self.1.clone().resolve(host.to_owned()));
            }
        }
        while asked.join_next().await.is_some() {}
    }

    /// The object at a URL that is no mirror's, of at most `max_bytes`.
    ///
    /// # Errors
    /// A URL that is none, and whatever [`Fetch::get`](crate::store::Fetch::get) can meet.
    pub async fn get_url(&self, url: &str, max_bytes: u64) -> Result<Bytes, StoreError> {
        let wrong = |why: String| StoreError::whole(url, StoreErrorKind::Other, why);
        let (base, name) = url.rsplit_once('/').ok_or_else(|| wrong("not a URL".into()))?;
        let base = format!("{base}/").parse().map_err(|e: crate::format::url::UrlError| wrong(e.to_string()))?;
        let path = name.parse().map_err(|e: crate::format::layout::PathError| wrong(e.to_string()))?;
        Http::new(self.clone(), base).get(&path, max_bytes).await
    }
}

/// What every client of this program has in common; it trusts the authorities in `further` too.
pub(in crate::store) fn builder(further: Vec<Certificate>) -> reqwest::ClientBuilder {
    // Another user of the library may have installed the same provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().filter_map(|der| Certificate::from_der(der).ok());
    reqwest::Client::builder()
        .tls_certs_only(roots.chain(further))
        .user_agent(USER_AGENT)
        .dns_resolver(Arc::new(Names::default()))
        .connect_timeout(CONNECT_TIMEOUT)
        .referer(false)
        .tcp_nodelay(true)
}

/// The certificates (PEM) in a file.
pub(in crate::store) fn certificates(file: &Path) -> Result<Vec<Certificate>, StoreError> {
    let place = file.display().to_string();
    let mut pem = Vec::new();
    let read = File::open(file).and_then(|f| f.take(CA_FILE_MAX_BYTES).read_to_end(&mut pem));
    read.map_err(|e| StoreError::io(&place, &e))?;
    let wrong = |why: String| StoreError::whole(&place, StoreErrorKind::Other, why);
    let found = Certificate::from_pem_bundle(&pem).map_err(|e| wrong(sentence(&e)))?;
    if found.is_empty() { Err(wrong("no certificate (PEM) in it".into())) } else { Ok(found) }
}

/// The URL is never part of the error: it may hold a password.
fn proxy(url: &str) -> Result<Proxy, StoreError> {
    let wrong = || StoreError::whole("--proxy", StoreErrorKind::Other, "expected http(s)://[USER:PASSWORD@]HOST:PORT");
    if !(url.starts_with("http://") || url.starts_with("https://")) {
        return Err(wrong());
    }
    Ok(Proxy::all(url).map_err(|_| wrong())?.no_proxy(NoProxy::from_env()))
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
