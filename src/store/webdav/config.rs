//! Access settings of a WebDAV server, validated before the first request.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;

use super::server::Server;
use crate::store::Secret;
use crate::store::http::{Names, builder, certificates, connects_to, sentence};
use crate::store::{StoreError, StoreErrorKind};

/// Below the idle timeout of servers, which is at least 5 seconds, so that no connection is closed during reuse.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// Access settings of a WebDAV server.
#[derive(Clone)]
pub struct WebDavConfig {
    /// `http(s)://host[:port]/path/`, without user, query and fragment.
    pub url: String,
    /// User name to log in with.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// Certificates (PEM) of private authorities, trusted in addition to the public ones.
    pub ca_file: Option<PathBuf>,
    /// Additional headers of every request; they may be secret.
    pub headers: Vec<(String, String)>,
}

impl fmt::Debug for WebDavConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebDavConfig").field("url", &self.url).field("user", &self.user).finish_non_exhaustive()
    }
}

impl WebDavConfig {
    /// Builds the server, with no connection open yet.
    pub(super) fn server(self) -> Result<Server, StoreError> {
        let base = base_url(&self.url)?;
        let wrong = |why: String| StoreError::whole(base.as_str(), StoreErrorKind::Other, why);
        if self.user.as_ref().is_some_and(|user| user.contains(':')) {
            return Err(wrong("a user name has no colon".into()));
        }
        let further = self.ca_file.as_deref().map(certificates).transpose()?.unwrap_or_default();
        let names = Names::default();
        connects_to(&names, base.as_str());
        let client = builder(further, &names)
            .default_headers(headers(&self.headers).map_err(wrong)?)
            .redirect(Policy::none())
            .pool_idle_timeout(IDLE_MAX)
            .build()
            .map_err(|e| wrong(sentence(&e)))?;
        Ok(Server { client, base, user: self.user, password: self.password })
    }
}

/// Parses the base URL and adds a trailing slash. Errors do not show the text, which may contain a password.
fn base_url(text: &str) -> Result<Url, StoreError> {
    let wrong = |why: &str| StoreError::whole("webdav", StoreErrorKind::Other, why);
    let mut url: Url = text.parse().map_err(|_| wrong("not a URL"))?;
    let no_user = url.username().is_empty() && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || !no_user || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("the URL must be http(s)://host/path/, without user, password, query and fragment"));
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

fn headers(pairs: &[(String, String)]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let key: HeaderName = name.parse().map_err(|_| format!("`{}` is no name of a header", name.escape_debug()))?;
        let mut value: HeaderValue =
            value.parse().map_err(|_| format!("the value of the header `{key}` is no text"))?;
        value.set_sensitive(true);
        headers.append(key, value);
    }
    Ok(headers)
}
