//! HTTP connections of the process: setup, trusted certificates and timeouts.
//!
//! HTTP/2 where the server offers it, otherwise HTTP/1.1 with keep-alive. A proxy is set by an option or by
//! `http_proxy`, `https_proxy` and `no_proxy`. At most three redirects, never from https to http. The trusted
//! certificates are Mozilla's, built in, so that a client works without a file system to read them from.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, NoProxy, Proxy, Url};

use super::addresses::CONNECT_TIMEOUT;
use super::names::Names;
use super::{Http, sentence};
use crate::format::layout::RepoPath;
use crate::format::url::BaseUrl;
use crate::store::{StoreError, StoreErrorKind};

/// Interval and timeout of HTTP/2 keep-alive pings on a connection in use.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);
const REDIRECTS_MAX: usize = 3;
/// Four times the size of a bundle of all public authorities.
const CA_FILE_MAX_BYTES: u64 = 1 << 20;
/// Header size limit of an HTTP/2 response; the library's own limit for HTTP/1.1 is about 400 KB.
const HEADERS_MAX_BYTES: u32 = 64 << 10;
/// Where the HTTP library looks for proxies.
const PROXY_VARIABLES: [&str; 6] = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
const USER_AGENT: &str = concat!("hfl/", env!("CARGO_PKG_VERSION"));

/// Connection options.
#[derive(Clone)]
pub struct HttpOptions {
    /// A proxy for all hosts not in `no_proxy`, `http(s)://[USER:PASSWORD@]HOST:PORT`; if `None`, the environment
    /// decides.
    pub proxy: Option<String>,
    /// Certificates (PEM) of private authorities, trusted in addition to the public ones.
    pub ca_file: Option<PathBuf>,
    /// Read timeout: the longest silence before and within a response.
    pub silence_max: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self { proxy: None, ca_file: None, silence_max: Duration::from_secs(10) }
    }
}

/// Hides the proxy URL, which may contain a password.
impl fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proxy = self.proxy.as_ref().map(|_| "...");
        let mut shown = f.debug_struct("HttpOptions");
        shown.field("proxy", &proxy).field("ca_file", &self.ca_file).field("silence_max", &self.silence_max).finish()
    }
}

/// A connection pool shared by all mirrors.
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

    /// A client with these options.
    ///
    /// # Errors
    /// As for [`HttpClient::new`]; also an invalid proxy URL, or a file without certificates.
    pub fn with(options: &HttpOptions) -> Result<Self, StoreError> {
        let names = Names::default();
        let of_redirects = names.clone();
        let further = options.ca_file.as_deref().map(certificates).transpose()?.unwrap_or_default();
        let mut builder = builder(further, &names)
            .default_headers(HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]))
            .read_timeout(options.silence_max)
            .http2_keep_alive_interval(SIGN_OF_LIFE)
            .http2_keep_alive_timeout(SIGN_OF_LIFE)
            .http2_max_header_list_size(HEADERS_MAX_BYTES)
            .redirect(Policy::custom(move |attempt| redirect(attempt, &of_redirects)));
        if let Some(url) = &options.proxy {
            builder = builder.proxy(proxy(url)?);
            connects_to(&names, url);
        }
        builder
            .build()
            .map(|client| Self(client, names))
            .map_err(|e| StoreError::whole("https", StoreErrorKind::Other, sentence(&e)))
    }

    /// States that connections go to this mirror.
    pub(super) fn connects_to(&self, mirror: &BaseUrl) {
        connects_to(&self.1, mirror.as_str());
    }

    /// Records that no connection to the host of this URL could be made.
    pub(super) fn doubt(&self, url: &Url) {
        url.domain().iter().for_each(|host| self.1.doubt(host));
    }

    /// Resolves the hosts of these mirrors concurrently. A failed lookup may succeed later.
    pub async fn look_up(&self, mirrors: impl Iterator<Item = &BaseUrl>) {
        let mut asked = tokio::task::JoinSet::new();
        let url = |mirror: &BaseUrl| Url::parse(mirror.as_str()).ok();
        for url in mirrors.filter_map(url) {
            if let Some(host) = url.domain() {
                let (names, host) = (self.1.clone(), host.to_owned());
                asked.spawn(async move { names.find(&host).await });
            }
        }
        while asked.join_next().await.is_some() {}
    }

    /// The place of an object whose URL need not be a mirror's.
    ///
    /// # Errors
    /// An invalid URL.
    pub fn object(&self, url: &str) -> Result<(Http, RepoPath), StoreError> {
        let wrong = |why: String| StoreError::whole(url, StoreErrorKind::Other, why);
        let (base, name) = url.rsplit_once('/').ok_or_else(|| wrong("not a URL".into()))?;
        let base = format!("{base}/").parse().map_err(|e: crate::format::url::UrlError| wrong(e.to_string()))?;
        let path = name.parse().map_err(|e: crate::format::layout::PathError| wrong(e.to_string()))?;
        Ok((Http::new(self.clone(), base), path))
    }
}

/// The settings shared by all HTTP clients of this program; also trusts the authorities in `further`. `names` must be
/// told where connections go.
pub(in crate::store) fn builder(further: Vec<Certificate>, names: &Names) -> reqwest::ClientBuilder {
    for proxy in PROXY_VARIABLES.iter().filter_map(|name| std::env::var(name).ok()) {
        connects_to(names, &if proxy.contains("://") { proxy } else { format!("http://{proxy}") });
    }
    // An error means that the same provider is already installed, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().filter_map(|der| Certificate::from_der(der).ok());
    reqwest::Client::builder()
        .tls_certs_only(roots.chain(further))
        .user_agent(USER_AGENT)
        .dns_resolver(Arc::new(names.clone()))
        .connect_timeout(CONNECT_TIMEOUT)
        .referer(false)
        .tcp_nodelay(true)
}

/// Reads the certificates (PEM) in a file.
pub(in crate::store) fn certificates(file: &Path) -> Result<Vec<Certificate>, StoreError> {
    let place = file.display().to_string();
    let mut pem = Vec::new();
    let read = File::open(file).and_then(|f| f.take(CA_FILE_MAX_BYTES).read_to_end(&mut pem));
    read.map_err(|e| StoreError::io(&place, &e))?;
    let wrong = |why: String| StoreError::whole(&place, StoreErrorKind::Other, why);
    let found = Certificate::from_pem_bundle(&pem).map_err(|e| wrong(sentence(&e)))?;
    if found.is_empty() { Err(wrong("no certificate (PEM) in it".into())) } else { Ok(found) }
}

/// The URL is never part of the error: it may contain a password.
fn proxy(url: &str) -> Result<Proxy, StoreError> {
    let wrong = || StoreError::whole("--proxy", StoreErrorKind::Other, "expected http(s)://[USER:PASSWORD@]HOST:PORT");
    if !(url.starts_with("http://") || url.starts_with("https://")) {
        return Err(wrong());
    }
    Ok(Proxy::all(url).map_err(|_| wrong())?.no_proxy(NoProxy::from_env()))
}

/// Tells `names` that connections go to this URL.
pub(in crate::store) fn connects_to(names: &Names, url: &str) {
    let Ok(url) = Url::parse(url) else { return };
    if let (Some(host), Some(port)) = (url.domain(), url.port_or_known_default()) {
        names.connects_to(host, port);
    }
}

fn redirect(attempt: Attempt<'_>, names: &Names) -> reqwest::redirect::Action {
    let downgrade =
        attempt.previous().last().is_some_and(|u| u.scheme() == "https") && attempt.url().scheme() != "https";
    if attempt.previous().len() > REDIRECTS_MAX {
        return attempt.error("too many redirects");
    }
    if downgrade || !matches!(attempt.url().scheme(), "http" | "https") {
        return attempt.error("redirected away from https or http");
    }
    connects_to(names, attempt.url().as_str());
    attempt.follow()
}
