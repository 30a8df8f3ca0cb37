//! Listings: parses the output of rsync's `--list-only`, line by line.

use super::failure::{Failure, Hint};
use super::host::Host;
use super::push::delete;
use super::run::{Run, local};
use crate::format::layout::RepoPath;
use crate::store::{Entry, StoreErrorKind};

/// Maximum number of objects in a listing: twice the blocks of the largest index.
const ENTRIES_MAX: usize = 8_388_608;
/// Assumed size of a listing for its deadline, in bytes. The real maximum would allow hours; a listing that takes
/// longer than this has stalled.
const LISTING_MAX_BYTES: u64 = 64 << 20;
/// Number of temporaries removed per rsync run.
const SWEEP_OBJECTS: usize = 512;

/// The name and size of a regular file in a line of a listing:
/// `-rw-r--r--          5,000 2026/11/24 11:00:00 blocks/1f/1f3a`.
pub(super) fn row(line: &[u8]) -> Option<(&str, u64)> {
    let (name, bytes) = any_row(line)?;
    Some((name, bytes?))
}

/// The same for any entry of a listing; only regular files have a size.
pub(super) fn any_row(line: &[u8]) -> Option<(&str, Option<u64>)> {
    let line = std::str::from_utf8(line).ok()?;
    let (mode, rest) = line.split_once(' ')?;
    let (bytes, rest) = rest.trim_start().split_once(' ')?;
    // A name may have spaces, even leading ones; date and time have none.
    let (_date, rest) = rest.split_once(' ')?;
    let (_time, name) = rest.split_once(' ')?;
    let digits: String = bytes.chars().filter(|c| *c != ',').collect();
    let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
    Some((name, Some(number).filter(|_| mode.starts_with('-'))))
}

/// Every object below `prefix`.
pub(super) async fn list(host: &Host, prefix: &str) -> Result<Vec<Entry>, Failure> {
    if !prefix.is_empty() && prefix.parse::<RepoPath>().is_err() {
        return Err(Failure::new(StoreErrorKind::Other, "not a directory of a repository"));
    }
    let below = |name: &str| prefix.is_empty() || name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
    let mut entries = Vec::new();
    names(host, prefix, &mut |name, bytes| {
        if let Some(path) = name.parse().ok().filter(|_| below(name)) {
            entries.push(Entry { path, bytes });
        }
        entries.len() <= ENTRIES_MAX
    })
    .await?;
    Ok(entries)
}

/// Removes the temporaries left by killed rsync processes.
pub(super) async fn sweep(host: &Host) -> Result<(), Failure> {
    let mut stale = Vec::new();
    names(host, "", &mut |name, _| {
        if is_temporary(name) {
            stale.push(name.to_owned());
        }
        stale.len() <= ENTRIES_MAX
    })
    .await?;
    for part in stale.chunks(SWEEP_OBJECTS) {
        let part: Vec<&str> = part.iter().map(String::as_str).collect();
        let Some(_turn) = host.turn().await else { break };
        delete(host, &part).await?;
    }
    Ok(())
}

/// Whether this is the name of rsync's temporary for an object: `.name.XXXXXX`.
fn is_temporary(name: &str) -> bool {
    let (directory, file) = name.rsplit_once('/').unwrap_or(("", name));
    let object = file.strip_prefix('.').and_then(|file| file.rsplit_once('.'));
    let random = |end: &str| end.len() == 6 && end.bytes().all(|b| b.is_ascii_alphanumeric());
    let plain = |text: &str| text.parse::<RepoPath>().is_ok();
    object.is_some_and(|(object, end)| random(end) && plain(object)) && (directory.is_empty() || plain(directory))
}

/// Calls `tell` for each regular file below `prefix`, until it returns false.
async fn names(host: &Host, prefix: &str, tell: &mut (dyn FnMut(&str, u64) -> bool + Send)) -> Result<(), Failure> {
    let Some(_turn) = host.turn().await else { return Ok(()) };
    let nowhere = host.private.empty().map_err(|e| local("the private directory", &e))?;
    let from = if prefix.is_empty() { "." } else { prefix };
    let options = ["--recursive", "--list-only", "--no-implied-dirs", "--ignore-missing-args"];
    let mut run = Run::about(&options, std::iter::once(from));
    run.arguments.extend([(&host.base).into(), nowhere.path().into()]);
    run.bytes = LISTING_MAX_BYTES;
    let mut on_line = |line: &[u8]| match row(line) {
        Some((name, bytes)) if !tell(name, bytes) => {
            Err(Failure::new(StoreErrorKind::Protocol, format!("more than {ENTRIES_MAX} objects in a listing")))
        }
        _ => Ok(()),
    };
    match run.run(host, &mut on_line).await {
        Err(failure) if failure.hint == Some(Hint::NoBase) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_regular_file() {
        let good: [(&str, (&str, u64)); 4] = [
            ("-rw-r--r--           5 2026/11/24 11:22:13 os.head", ("os.head", 5)),
            ("-rw-r--r--  5368709120 2026/11/24 11:22:51 a/big", ("a/big", 5_368_709_120)),
            ("-rw-r--r--       5,000 2026/11/24 11:22:51 sp ace/x", ("sp ace/x", 5000)),
            ("-rw-r--r--           0 2026/11/24 11:22:51  x", (" x", 0)),
        ];
        for (line, expected) in good {
            assert_eq!(row(line.as_bytes()), Some(expected), "{line}");
        }
        let bad = ["", "drwxr-xr-x        4096 2026/11/24 11:22:51 a", "lrwxrwxrwx 4 2026/11/24 11:22:51 lnk", "-rw"];
        for line in bad {
            assert_eq!(row(line.as_bytes()), None, "{line}");
        }
        assert_eq!(row(b"-rw-r--r-- 99999999999999999999 2026/11/24 11:22:51 x"), None);
        assert_eq!(row(b"-rw-r--r-- +5 2026/11/24 11:22:51 x"), None);
    }

    #[test]
    fn only_what_rsync_left_is_swept() {
        for name in [".images.aB3dE9", "blocks/1f/.1f3a.XuTkWc", ".os.head.000000"] {
            assert!(is_temporary(name), "{name}");
        }
        for name in ["images", ".htaccess", "blocks/.x.short", "a/.well-known/.x.XuTkWc", "a.b.XuTkWc", "..x.XuTkWc"] {
            assert!(!is_temporary(name), "{name}");
        }
    }
}
