//! Transfers from the host: objects and their sizes.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;

use super::failure::{Failure, Hint};
use super::host::Host;
use super::lane::Batch;
use super::listing::any_row;
use super::run::{Run, local};
use crate::format::layout::RepoPath;
use crate::store::StoreErrorKind;

/// [`crate::store::Fetch::get`]; the input of a request is the maximum size in bytes.
#[derive(Debug)]
pub(super) struct Get;

/// [`crate::store::Store::size`].
#[derive(Debug)]
pub(super) struct Size;

#[async_trait]
impl Batch for Get {
    type In = u64;
    type Out = Bytes;

    /// Larger than the default, as most objects are far below their maximum size.
    const MAX_BYTES: u64 = 256 << 20;

    fn bytes(input: &u64) -> u64 {
        *input
    }

    async fn run(host: &Host, requests: &[(RepoPath, u64)]) -> Result<Vec<Result<Bytes, Failure>>, Failure> {
        let (mut found, failure) = transfer(host, requests).await?;
        let failure = failure.map_or(Ok(()), Err);
        let absent = requests.iter().zip(&found).filter(|(_, found)| found.is_none());
        let absent: Vec<&RepoPath> = absent.map(|((path, _), _)| path).collect();
        let no_base = matches!(&failure, Err(failure) if failure.hint == Some(Hint::NoBase));
        // An object that was not transferred is missing, too long or unreadable.
        let sizes = if absent.is_empty() || no_base { HashMap::new() } else { sizes(host, &absent).await? };
        let why = |path: &RepoPath, max: u64| match (sizes.get(path.as_str()), &failure) {
            (None, _) => Failure::new(StoreErrorKind::NotFound, "no such object"),
            (Some(None), _) => Failure::new(StoreErrorKind::Protocol, "something is there that is not a regular file"),
            (Some(&Some(bytes)), _) if bytes > max => {
                Failure::new(StoreErrorKind::TooLong, format!("{bytes} bytes, expected at most {max}"))
            }
            (Some(_), Err(failure)) => failure.clone(),
            (Some(_), Ok(())) => Failure::new(StoreErrorKind::Protocol, "rsync did not bring it, and does not say why"),
        };
        let answers = requests.iter().zip(found.drain(..));
        Ok(answers.map(|((path, max), bytes)| bytes.ok_or_else(|| why(path, *max))).collect())
    }

    /// rsync has one size limit for a whole run, so a request with a small limit must not run with a much larger one.
    fn together(first: &u64, next: &u64) -> bool {
        let (low, high) = (*first.min(next), *first.max(next));
        high <= low.saturating_mul(4).max(1 << 20)
    }
}

#[async_trait]
impl Batch for Size {
    type In = ();
    type Out = Option<u64>;

    fn bytes(_input: &()) -> u64 {
        0
    }

    async fn run(host: &Host, requests: &[(RepoPath, ())]) -> Result<Vec<Result<Option<u64>, Failure>>, Failure> {
        let paths: Vec<&RepoPath> = requests.iter().map(|(path, ())| path).collect();
        let sizes = sizes(host, &paths).await?;
        Ok(paths.iter().map(|path| Ok(sizes.get(path.as_str()).copied().flatten())).collect())
    }
}

/// The objects one rsync run transfers, and the failure if it did not transfer all.
async fn transfer(host: &Host, requests: &[(RepoPath, u64)]) -> Result<(Vec<Option<Bytes>>, Option<Failure>), Failure> {
    let tree = host.private.tree().map_err(|e| local("the private directory", &e))?;
    let max = requests.iter().map(|(_, max)| *max).max().unwrap_or(0);
    let limit = format!("--max-size={max}");
    let options = ["--relative", "--no-implied-dirs", "--ignore-missing-args", "--whole-file", &limit];
    let mut run = Run::about(&options, requests.iter().map(|(path, _)| path.as_str()));
    run.arguments.extend([(&host.base).into(), tree.path().into()]);
    run.bytes = requests.iter().map(|(_, max)| *max).fold(0, u64::saturating_add);
    run.file_max_bytes = max;
    let failure = match run.run(host, &mut |_| Ok(())).await {
        Ok(()) => None,
        Err(failure) if matches!(failure.hint, Some(Hint::NoBase | Hint::Partial)) => Some(failure),
        Err(failure) => return Err(failure),
    };
    let wanted = requests.to_vec();
    let read = move || {
        let take = |(path, max): &(RepoPath, u64)| take(&tree.path().join(path.as_str()), *max);
        wanted.iter().map(take).collect::<io::Result<Vec<_>>>().map(|found| (found, tree))
    };
    let read = tokio::task::spawn_blocking(read).await;
    let found = read.map_err(|e| Failure::new(StoreErrorKind::Other, e.to_string()))?;
    let (found, tree) = found.map_err(|e| local("the private directory", &e))?;
    host.private.keep(tree);
    Ok((found, failure))
}

/// Reads and removes a regular file of at most `max` bytes.
fn take(path: &Path, max: u64) -> io::Result<Option<Bytes>> {
    let no_follow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(no_follow).open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Ok(None);
    }
    std::fs::remove_file(path)?;
    if meta.len() > max {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(meta.len() as usize);
    file.take(max).read_to_end(&mut bytes)?;
    Ok(Some(bytes.into()))
}

/// The sizes of the objects that exist; `None` for anything but a regular file.
async fn sizes(host: &Host, paths: &[&RepoPath]) -> Result<HashMap<String, Option<u64>>, Failure> {
    let options = ["--list-only", "--no-implied-dirs", "--ignore-missing-args"];
    let mut run = Run::about(&options, paths.iter().map(|path| path.as_str()));
    let nowhere = host.private.empty().map_err(|e| local("the private directory", &e))?;
    run.arguments.extend([(&host.base).into(), nowhere.path().into()]);
    let mut sizes: HashMap<String, Option<u64>> = HashMap::new();
    let mut collect = |line: &[u8]| {
        if let Some((name, bytes)) = any_row(line).filter(|_| sizes.len() < paths.len()) {
            sizes.insert(name.to_owned(), bytes);
        }
        Ok(())
    };
    match run.run(host, &mut collect).await {
        Err(failure) if failure.hint == Some(Hint::NoBase) => Ok(HashMap::new()),
        done => done.map(|()| sizes),
    }
}
