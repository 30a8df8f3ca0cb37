//! How the mirrors of a repository stand at this moment: for a page that is served live.
//!
//! Only mirrors that verified heads name are asked, so many at a time, and not for long. What is shown is the public URL
//! of a mirror, what its head says, and for an error only of what kind it is.

use std::sync::Arc;
use std::time::Duration;

use minijinja::{Value, context};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::artifact::pages::words;
use crate::boot::template;
use crate::error::Error;
use crate::format::head::Head;
use crate::format::time::Timestamp;
use crate::format::url::BaseUrl;
use crate::repo::survey::head::{self, age};
use crate::repo::survey::{HeadState, ListState, TrustPolicy, VerifiedHead};
use crate::store::http::{Http, HttpClient};
use crate::store::{Fetch, StoreErrorKind};

/// Maximum number of images that are looked for.
const IMAGES_MAX: usize = 64;
/// Maximum number of heads that are asked for.
const HEADS_MAX: usize = 128;
/// How many are asked for at a time.
const AT_ONCE: usize = 16;
/// How long one may take, and all together.
const ONE_WAIT: Duration = Duration::from_secs(3);
const ALL_WAIT: Duration = Duration::from_secs(5);

/// Asks the mirrors for their heads, and renders a part of a page that says what they have. `copy` is a mirror at hand:
/// its heads name the others.
///
/// # Errors
/// The list of images cannot be read.
pub async fn mirrors_now(
    copy: &dyn Fetch,
    policy: &TrustPolicy,
    client: &HttpClient,
    now: Timestamp,
) -> Result<String, Error> {
    let (mut own, mut unknown) = (Vec::new(), 0);
    for name in ListState::read(copy).await?.names.iter().take(IMAGES_MAX) {
        match head::read(copy, name, &policy.of(name)).await {
            HeadState::Verified(found) => own.push(found),
            HeadState::Foreign(..) => unknown += 1,
            HeadState::Absent | HeadState::Damaged(..) | HeadState::Unreadable(_) => {}
        }
    }
    let named = own.iter().flat_map(|found| found.head.mirrors.iter().map(|url| (Arc::clone(found), url.clone())));
    let mut pairs: Vec<(Arc<VerifiedHead>, BaseUrl)> = named.collect();
    let more = pairs.len().saturating_sub(HEADS_MAX);
    pairs.truncate(HEADS_MAX);
    let answers = ask_all(client, &pairs, policy).await;
    let rows: Vec<Value> = pairs
        .iter()
        .zip(&answers)
        .map(|((found, url), answer)| row(newest(found, &pairs, &answers), url, answer.as_ref(), now))
        .collect();
    let mut notes = Vec::new();
    if unknown > 0 {
        notes.push(format!("{unknown} images are left out: their keys are not known here (hfl serve --key RW...)"));
    }
    if own.iter().any(|found| found.head.mirrors.is_empty()) {
        notes.push("Some heads name no mirror: mirrors.toml has no public URL (`read`).".to_owned());
    }
    let context = context! { rows, notes, asked => words::time(now), more => (more > 0).then_some(more) };
    Ok(template::render(None, "mirrors.html", &context)?)
}

/// The heads of these images on these mirrors; `None` for those that do not answer in time.
async fn ask_all(
    client: &HttpClient,
    pairs: &[(Arc<VerifiedHead>, BaseUrl)],
    policy: &TrustPolicy,
) -> Vec<Option<HeadState>> {
    let (end, places) = (Instant::now() + ALL_WAIT, Arc::new(Semaphore::new(AT_ONCE)));
    let mut asked = JoinSet::new();
    for (i, (found, url)) in pairs.iter().enumerate() {
        let (image, accepted) = (found.head.image.clone(), policy.of(&found.head.image));
        let (mirror, places) = (Http::new(client.clone(), url.clone()), Arc::clone(&places));
        asked.spawn(async move {
            let ask = async {
                let _place = places.acquire().await.ok()?;
                timeout(ONE_WAIT, head::read(&mirror, &image, &accepted)).await.ok()
            };
            (i, timeout_at(end, ask).await.ok().flatten())
        });
    }
    let mut answers: Vec<Option<HeadState>> = pairs.iter().map(|_| None).collect();
    while let Some(answered) = asked.join_next().await {
        if let Ok((i, answer)) = answered {
            answers[i] = answer;
        }
    }
    answers
}

/// The newest head of an image: the copy at hand, or one that a mirror has.
fn newest<'a>(
    own: &'a Arc<VerifiedHead>,
    pairs: &'a [(Arc<VerifiedHead>, BaseUrl)],
    answers: &'a [Option<HeadState>],
) -> &'a Head {
    let of_image = pairs.iter().zip(answers).filter(|((found, _), _)| found.head.image == own.head.image);
    let answered = of_image.filter_map(|(_, answer)| answer.as_ref()?.verified());
    answered.chain([own]).map(|found| &found.head).max_by_key(|head| age(head)).unwrap_or(&own.head)
}

fn row(newest: &Head, url: &BaseUrl, answer: Option<&HeadState>, now: Timestamp) -> Value {
    let found = answer.and_then(HeadState::verified).map(|found| &found.head);
    let is_good = found.is_some_and(|head| age(head) >= age(newest));
    let state = match (answer, found) {
        (_, Some(head)) => {
            let (own, first) = (head.newest(), newest.newest());
            let old = format!("published {}", ago(now, own.created));
            match is_good {
                true => format!("newest, {old}"),
                false if own.version < first.version => format!("behind version {}, {old}", first.version),
                false => format!("an older head of the newest version, {old}"),
            }
        }
        (None, _) => "does not answer".to_owned(),
        (Some(HeadState::Absent), _) => "does not have it".to_owned(),
        (Some(HeadState::Foreign(..)), _) => "signed by another key".to_owned(),
        (Some(HeadState::Unreadable(e)), _) => match e.kind() {
            StoreErrorKind::Denied => "refuses it".to_owned(),
            StoreErrorKind::Unreachable => "cannot be reached".to_owned(),
            _ => "answers with an error".to_owned(),
        },
        (Some(_), _) => "what it has is no head".to_owned(),
    };
    let version = found.map(|head| head.newest().version.number());
    context! { image => newest.image.as_str(), mirror => url.as_str(), version, state, is_good }
}

/// How long ago this was: `3 hours ago`.
fn ago(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.unix().saturating_sub(then.unix());
    let (number, unit) = match seconds {
        ..120 => return "just now".into(),
        120..7_200 => (seconds / 60, "minutes"),
        7_200..172_800 => (seconds / 3600, "hours"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{number} {unit} ago")
}
