//! Listings: PROPFIND with Depth 1 per collection. Most servers refuse to list a whole tree at once.
//!
//! Only direct members of the requested collection are accepted, so every listing terminates.

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use percent_encoding::percent_decode_str;
use reqwest::StatusCode;

use super::multistatus::{self, Resource};
use super::server::Server;
use crate::format::layout::RepoPath;
use crate::store::{Entry, StoreError, StoreErrorKind};

/// Size limit of a response about one collection: some 100,000 objects.
const ANSWER_MAX_BYTES: u64 = 64 << 20;
/// Collections listed concurrently; each response is held in memory.
const AT_ONCE: usize = 8;
/// Twice the maximum number of blocks in an index.
const ENTRIES_MAX: usize = 1 << 23;
/// Ample for 256 collections of blocks and some for each image.
const COLLECTIONS_MAX: usize = 1 << 16;

const ASKED: &str = concat!(
    r#"<?xml version="1.0" encoding="utf-8"?>"#,
    r#"<propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/></prop></propfind>"#
);

/// A direct member of a collection.
struct Member {
    path: RepoPath,
    collection: bool,
    bytes: Option<u64>,
}

/// Lists every object below `prefix`.
pub(super) async fn list(server: &Server, prefix: &str) -> Result<Vec<Entry>, StoreError> {
    let (mut entries, mut unsized_objects, mut collections) = (Vec::new(), Vec::new(), 0);
    let mut level = vec![prefix.to_owned()];
    while !level.is_empty() {
        collections += level.len();
        let mut answers = stream::iter(level).map(|c| members(server, c)).buffer_unordered(AT_ONCE);
        let mut next = Vec::new();
        while let Some(members) = answers.try_next().await? {
            for member in members {
                match member {
                    Member { path, collection: true, .. } => next.push(path.to_string()),
                    Member { path, bytes: Some(bytes), .. } => entries.push(Entry { path, bytes }),
                    Member { path, .. } => unsized_objects.push(path),
                }
            }
            if entries.len() + unsized_objects.len() > ENTRIES_MAX || collections + next.len() > COLLECTIONS_MAX {
                let why = format!("more than {ENTRIES_MAX} objects or {COLLECTIONS_MAX} collections");
                return Err(server.error(prefix, StoreErrorKind::TooLong, why));
            }
        }
        level = next;
    }
    let sizes = stream::iter(unsized_objects).map(async |path: RepoPath| {
        let bytes = size(server, path.as_str()).await?;
        Ok::<_, StoreError>(bytes.map(|bytes| Entry { path, bytes }))
    });
    let sized: Vec<Option<Entry>> = sizes.buffer_unordered(AT_ONCE).try_collect().await?;
    entries.extend(sized.into_iter().flatten());
    Ok(entries)
}

/// Size in bytes of the object at `at`; `None` if there is no object, or a collection.
///
/// HEAD is the cheapest request. But Apache omits the length of an empty object, and for collections every server
/// answers differently: then PROPFIND decides.
pub(super) async fn size(server: &Server, at: &str) -> Result<Option<u64>, StoreError> {
    let answer = server.send(server.request("HEAD", at)?, at, 0).await?;
    match answer.status() {
        StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
        StatusCode::OK => {
            let length = answer.headers().get(reqwest::header::CONTENT_LENGTH).and_then(|l| l.to_str().ok());
            if let Some(bytes) = length.and_then(|l| l.parse().ok()) {
                return Ok(Some(bytes));
            }
        }
        StatusCode::METHOD_NOT_ALLOWED => {}
        status if status.is_redirection() => {}
        _ => return Err(server.refused("HEAD", at, &answer)),
    }
    let found = propfind(server, at, "0").await?.and_then(|resources| resources.into_iter().next());
    match found {
        None => Ok(None),
        Some(Resource { collection: true, .. }) => Ok(None),
        Some(Resource { bytes: Some(bytes), .. }) => Ok(Some(bytes)),
        Some(_) => Err(server.error(at, StoreErrorKind::Protocol, "the server does not say how long it is")),
    }
}

/// Whether PROPFIND finds anything at `at`; false on a server that does not support it.
pub(super) async fn is_there(server: &Server, at: &str) -> Result<bool, StoreError> {
    match propfind(server, at, "0").await {
        Err(e) if e.kind() == StoreErrorKind::Protocol => Ok(false),
        found => found.map(|found| found.is_some()),
    }
}

/// The names of the objects directly in a collection; they need not be valid repository names.
pub(super) async fn names(server: &Server, collection: &str) -> Result<Vec<String>, StoreError> {
    let resources = propfind(server, &format!("{collection}/"), "1").await?.unwrap_or_default();
    let name = |r: Resource| child(server, collection, &r.href).filter(|_| !r.collection);
    Ok(resources.into_iter().filter_map(name).collect())
}

async fn members(server: &Server, collection: String) -> Result<Vec<Member>, StoreError> {
    let slash = if collection.is_empty() { "" } else { "/" };
    let Some(resources) = propfind(server, &format!("{collection}{slash}"), "1").await? else { return Ok(Vec::new()) };
    let member = |r: Resource| {
        let name = child(server, &collection, &r.href)?;
        let path = format!("{collection}{slash}{name}").parse().ok()?;
        Some(Member { path, collection: r.collection, bytes: r.bytes })
    };
    Ok(resources.into_iter().filter_map(member).collect())
}

/// The properties of the resource at `at`, and with depth 1 of its members; `None` if it does not exist.
async fn propfind(server: &Server, at: &str, depth: &'static str) -> Result<Option<Vec<Resource>>, StoreError> {
    let request = server.request("PROPFIND", at)?.header("depth", depth);
    let request = request.header("content-type", "application/xml").body(Bytes::from_static(ASKED.as_bytes()));
    let answer = server.send(request, at, ASKED.len() as u64).await?;
    match answer.status() {
        StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
        StatusCode::MULTI_STATUS => {}
        _ => return Err(server.refused("PROPFIND", at, &answer)),
    }
    let body = server.body(at, answer, ANSWER_MAX_BYTES).await?;
    let resources = multistatus::parse(&body);
    resources.map(Some).map_err(|e| server.error(at, StoreErrorKind::Protocol, e.to_string()))
}

/// The name of `href`, a URL or an absolute path, if it lies directly below a collection. The host is ignored: behind a
/// proxy a server may know itself by another name.
fn child(server: &Server, collection: &str, href: &str) -> Option<String> {
    let path = match href.split_once("://") {
        Some((_, rest)) => &rest[rest.find('/')?..],
        None => href,
    };
    let path = percent_decode_str(path).decode_utf8().ok()?;
    let base = percent_decode_str(server.base.path()).decode_utf8().ok()?;
    let below = path.strip_prefix(base.as_ref())?.strip_prefix(collection)?;
    let name = if collection.is_empty() { below } else { below.strip_prefix('/')? };
    let name = name.strip_suffix('/').unwrap_or(name);
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'+');
    let usable = !name.is_empty() && name != "." && name != ".." && name.bytes().all(plain);
    usable.then(|| name.to_owned())
}
