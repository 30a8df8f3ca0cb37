//! A directory as a web site: what caches may keep, and a log.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, Method};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use hfl::format::layout::RepoPath;
use hfl::format::time::Timestamp;
use hfl::system::host::{Host as _, ThisHost};
use tower_http::services::ServeDir;

use super::live::Live;

/// For files that are never replaced, and for all others.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const MUTABLE: HeaderValue = HeaderValue::from_static("no-cache");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";

/// A directory that is served.
pub struct Site {
    pub directory: PathBuf,
    /// Makes the front page.
    pub live: Option<Live>,
    /// Whether each request is logged.
    pub is_logged: bool,
}

impl Site {
    /// The directory as it is, without a log.
    pub fn of(directory: PathBuf) -> Self {
        Self { directory, live: None, is_logged: false }
    }

    /// Serves it until the future is dropped.
    pub async fn serve(self, listener: tokio::net::TcpListener) -> std::io::Result<()> {
        let files = ServeDir::new(&self.directory);
        let router = Router::new().fallback_service(files).layer(from_fn_with_state(Arc::new(self), answer));
        axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await
    }

    async fn front_page(&self) -> Option<Response> {
        let page = self.live.as_ref()?.page().await?;
        Some(([(CONTENT_TYPE, HTML)], page).into_response())
    }
}

async fn answer(
    State(site): State<Arc<Site>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().trim_start_matches('/').parse::<RepoPath>();
    let asked = request.uri().to_string().replace('"', "%22");
    let line = site.is_logged.then(|| format!("\"{} {asked} {:?}\"", request.method(), request.version()));
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let front = match request.uri().path() {
        "/" | "/index.html" if is_read => site.front_page().await,
        _ => None,
    };
    let mut response = match front {
        Some(page) => page,
        None => next.run(request).await,
    };
    let is_immutable = !response.status().is_client_error() && path.is_ok_and(|path| path.is_immutable());
    response.headers_mut().insert(CACHE_CONTROL, if is_immutable { IMMUTABLE } else { MUTABLE });
    if let Some(line) = line {
        let bytes = response.headers().get(CONTENT_LENGTH).and_then(|bytes| bytes.to_str().ok()).unwrap_or("-");
        let line =
            format!("{} - - [{}] {line} {} {bytes}\n", client.ip(), time(ThisHost.now()), response.status().as_u16());
        // A log that cannot be written is no reason to serve nothing.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
    response
}

/// As the common log format has it: `01/Dec/2026:11:57:00 +0000`.
fn time(now: Timestamp) -> String {
    let iso = now.to_string();
    let part = |from: usize, to: usize| iso.get(from..to).unwrap_or_default();
    let month = part(5, 7).parse::<usize>().ok().and_then(|month| MONTHS.get(month.checked_sub(1)? * 3..month * 3));
    format!("{}/{}/{}:{} +0000", part(8, 10), month.unwrap_or("-"), part(0, 4), part(11, 19))
}
