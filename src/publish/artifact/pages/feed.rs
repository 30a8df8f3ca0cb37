//! Atom feeds: the versions of one image, and the newest versions of a repository.

use minijinja::{Value, context};

use super::words;
use crate::format::digest::Sha256;
use crate::format::head::{Head, VersionRow};
use crate::format::url::BaseUrl;

/// Maximum number of entries of a feed.
const ENTRIES_MAX: usize = 50;

/// A feed.
pub struct Feed<'a> {
    pub title: String,
    /// What tells it from all others, and stays.
    pub subject: String,
    /// Where it is, and the page that it belongs to, relative to a mirror.
    pub path: &'a str,
    pub page: &'a str,
    /// The first mirror.
    pub place: Option<&'a BaseUrl>,
}

/// What the template of a feed of these images is given.
pub fn of(feed: &Feed<'_>, heads: &[&Head]) -> Value {
    let mut versions: Vec<(&Head, &VersionRow)> =
        heads.iter().flat_map(|head| head.versions.iter().take(ENTRIES_MAX).map(|row| (*head, row))).collect();
    versions.sort_by(|(a, x), (b, y)| (y.created, &a.image, y.version).cmp(&(x.created, &b.image, x.version)));
    versions.truncate(ENTRIES_MAX);
    // Without the URL of a mirror, links are relative to the feed.
    let above = "../".repeat(feed.path.matches('/').count());
    let base = feed.place.map_or(above, |place| place.as_str().to_owned());
    let id = urn(&Sha256::of(format!("hfl feed {}", feed.subject).as_bytes()));
    context! {
        title => feed.title, id, updated => versions.first().map(|(_, row)| row.created.to_string()),
        own => feed.place.map(|_| format!("{base}{}", feed.path)), page => format!("{base}{}", feed.page), hfl => env!("CARGO_PKG_VERSION"),
        entries => versions.into_iter().map(|(head, row)| entry(head, row, &base)).collect::<Vec<_>>(),
    }
}

fn entry(head: &Head, row: &VersionRow, base: &str) -> Value {
    context! {
        image => head.image.as_str(), version => row.version.number(), label => row.label.as_ref().map(|l| plain(l.as_str())),
        id => urn(&row.index_sha256), created => row.created.to_string(),
        size => words::size(row.size), new => words::size(row.new_bytes),
        page => format!("{base}page/{}.html", head.image),
    }
}

/// A name that stays: a UUID of version 8, which has what its maker puts there.
fn urn(digest: &Sha256) -> String {
    let text = digest.to_string();
    format!("urn:uuid:{}-{}-8{}-8{}-{}", &text[..8], &text[8..12], &text[12..15], &text[15..18], &text[18..30])
}

/// A text without the characters that XML cannot hold.
fn plain(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '\u{fffe}' | '\u{ffff}') { '\u{fffd}' } else { c }).collect()
}
