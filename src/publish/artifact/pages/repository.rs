//! The page of a repository: all its images.

use minijinja::{Value, context};

use super::image::{MIRRORS_SHOWN, Shown, label, more};
use super::{Site, words};
use crate::format::head::Head;

/// Maximum number of images on the page.
const IMAGES_SHOWN: usize = 500;
/// Maximum number of versions that templates of earlier days show.
const VERSIONS_SHOWN: usize = 30;

/// What the template of the page is given.
pub fn page(site: &Site<'_>, shown: &Shown<'_>) -> Value {
    let heads = &site.heads;
    let total = heads.iter().map(|head| head.newest().size).sum();
    let changed = heads.iter().map(|head| head.newest().created).max();
    context! {
        root => "", site => site.title(), hfl => env!("CARGO_PKG_VERSION"), feed => "feed.atom",
        repository => context! {
            images => heads.iter().take(IMAGES_SHOWN).map(|head| row(head)).collect::<Vec<_>>(),
            more => more(heads.len(), IMAGES_SHOWN), count => heads.len(), total => words::size(total),
            changed => changed.map(words::time),
            mirrors => site.mirrors.iter().take(MIRRORS_SHOWN).map(|m| m.as_str()).collect::<Vec<_>>(),
            more_mirrors => more(site.mirrors.len(), MIRRORS_SHOWN),
        },
        ..of_one_image(shown, heads)
    }
}

fn row(head: &Head) -> Value {
    let newest = head.newest();
    context! {
        name => head.image.as_str(), version => newest.version.number(), created => words::time(newest.created),
        size => words::size(newest.size), label => label(newest.label.as_ref()),
    }
}

/// What templates from before there was a page for each image use: the image that was published last.
fn of_one_image(shown: &Shown<'_>, heads: &[&Head]) -> Value {
    let head = shown.head;
    let versions = head.versions.iter().take(VERSIONS_SHOWN).map(|row| {
        context! {
            version => row.version.number(), created => row.created.to_string(), size => row.size,
            new_bytes => row.new_bytes, label => label(row.label.as_ref()),
        }
    });
    let files = head.files.iter().map(|file| {
        context! { path => file.path.as_str(), bytes => file.bytes, sha256 => file.sha256.to_string() }
    });
    context! {
        image => head.image.as_str(), versions => versions.collect::<Vec<_>>(), files => files.collect::<Vec<_>>(),
        key => shown.key.map(ToString::to_string), mirrors => head.mirrors.iter().map(|m| m.as_str()).collect::<Vec<_>>(),
        images => heads.iter().map(|head| head.image.as_str()).collect::<Vec<_>>(),
    }
}
