//! The front page with the state of the mirrors, which is asked for when the page is, and kept for some seconds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hfl::publish::mirrors_now;
use hfl::repo::source::Base;
use hfl::repo::survey::TrustPolicy;
use hfl::store::Fetch;
use hfl::store::http::HttpClient;
use hfl::system::host::{Host as _, ThisHost};
use tokio::io::AsyncReadExt as _;
use tokio::sync::Mutex;

/// How long the state of the mirrors is kept.
const KEPT: Duration = Duration::from_secs(10);
/// Maximum size of a front page, in bytes.
const PAGE_MAX_BYTES: u64 = 4 << 20;
/// Where the built-in template has place for it.
const PLACE: &str = "<!-- hfl serve: mirrors -->";

/// A front page that is made when it is asked for.
pub struct Live {
    page: PathBuf,
    copy: Arc<dyn Fetch>,
    client: HttpClient,
    policy: TrustPolicy,
    state: Mutex<Option<(Instant, String)>>,
}

impl Live {
    /// The front page of the mirror in `directory`.
    pub fn new(directory: &Path, policy: TrustPolicy) -> anyhow::Result<Self> {
        let base = Base::Directory(directory.to_owned());
        let (copy, client, state) = (base.fetch()?, HttpClient::new()?, Mutex::new(None));
        Ok(Self { page: directory.join("index.html"), copy, client, policy, state })
    }

    /// The page; `None` if there is none that is text, or nothing to add.
    pub async fn page(&self) -> Option<String> {
        let (mut page, file) = (String::new(), tokio::fs::File::open(&self.page).await.ok()?);
        let bytes = file.take(PAGE_MAX_BYTES).read_to_string(&mut page).await.ok()?;
        if bytes as u64 == PAGE_MAX_BYTES {
            return None;
        }
        let state = self.state().await?;
        let place = [PLACE, "</main>", "</body>", "</html>"].iter().find_map(|mark| page.rfind(mark));
        page.insert_str(place.unwrap_or(page.len()), &state);
        Some(page)
    }

    /// One request asks the mirrors; those that come meanwhile wait for its answer.
    async fn state(&self) -> Option<String> {
        let mut state = self.state.lock().await;
        match &*state {
            Some((when, text)) if when.elapsed() < KEPT => Some(text.clone()),
            _ => {
                let text = mirrors_now(&*self.copy, &self.policy, &self.client, ThisHost.now()).await.ok()?;
                *state = Some((Instant::now(), text.clone()));
                Some(text)
            }
        }
    }
}
