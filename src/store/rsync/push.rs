//! Transfers to the host: new objects, replacements, removals.
//!
//! Bodies are written as files to a local tree with the paths of the objects; one rsync transfers the tree.
//!
//! Arrived files need no further check. The rsync on the host compares the checksum of its temporary file with the
//! sender's before the rename, and ends with an error if they differ (23) or a write fails (11). So a truncated file is
//! never renamed into place.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempDir;

use super::failure::{Failure, Hint};
use super::host::Host;
use super::lane::Batch;
use super::run::{Run, local};
use crate::format::layout::RepoPath;
use crate::store::{Put, StoreErrorKind};

/// Whole files, readable for a web server whatever the host's umask. New directories keep the mode that the host gives
/// them, as rsync cannot set it without changing existing directories.
const PUSH: [&str; 5] = ["--relative", "--no-implied-dirs", "--whole-file", "--perms", "--chmod=F644"];

/// [`crate::store::Store::put_new`].
#[derive(Debug)]
pub(super) struct New;

/// [`crate::store::Store::put_replace`].
#[derive(Debug)]
pub(super) struct Replace;

/// [`crate::store::Store::delete`].
#[derive(Debug)]
pub(super) struct Delete;

#[async_trait]
impl Batch for New {
    type In = Bytes;
    type Out = Put;

    fn bytes(input: &Bytes) -> u64 {
        input.len() as u64
    }

    async fn run(host: &Host, requests: &[(RepoPath, Bytes)]) -> Result<Vec<Result<Put, Failure>>, Failure> {
        let made = push(host, requests, &["--ignore-existing", "--out-format=%n"]).await?;
        let put = |path: &RepoPath| if made.contains(path.as_str()) { Put::Created } else { Put::Exists };
        Ok(requests.iter().map(|(path, _)| Ok(put(path))).collect())
    }

    fn others(_carried: Put) -> Put {
        Put::Exists
    }
}

#[async_trait]
impl Batch for Replace {
    type In = Bytes;
    type Out = ();

    const LAST_WINS: bool = true;
    const ASKS: bool = true;

    fn bytes(input: &Bytes) -> u64 {
        input.len() as u64
    }

    async fn run(host: &Host, requests: &[(RepoPath, Bytes)]) -> Result<Vec<Result<(), Failure>>, Failure> {
        push(host, requests, &["--ignore-times"]).await?;
        Ok(requests.iter().map(|_| Ok(())).collect())
    }
}

#[async_trait]
impl Batch for Delete {
    type In = ();
    type Out = ();

    const ASKS: bool = true;

    fn bytes(_input: &()) -> u64 {
        0
    }

    async fn run(host: &Host, requests: &[(RepoPath, ())]) -> Result<Vec<Result<(), Failure>>, Failure> {
        let names: Vec<&str> = requests.iter().map(|(path, ())| path.as_str()).collect();
        delete(host, &names).await?;
        Ok(requests.iter().map(|_| Ok(())).collect())
    }
}

/// Transfers the bodies and returns the names that rsync reports as sent.
async fn push(host: &Host, requests: &[(RepoPath, Bytes)], options: &[&str]) -> Result<HashSet<String>, Failure> {
    let bodies: Vec<(RepoPath, Bytes)> = requests.to_vec();
    let tree = host.private.tree().map_err(|e| local("the private directory", &e))?;
    let tree = on_disk(tree, move |root| {
        bodies.iter().try_for_each(|(path, bytes)| {
            let file = root.join(path.as_str());
            std::fs::create_dir_all(file.parent().unwrap_or(root))?;
            std::fs::write(file, bytes)
        })
    })
    .await?;
    let sent: HashSet<&str> = requests.iter().map(|(path, _)| path.as_str()).collect();
    let mut made = HashSet::new();
    let all: Vec<&str> = PUSH.iter().chain(options).copied().collect();
    let mut run = Run::about(&all, requests.iter().map(|(path, _)| path.as_str()));
    run.arguments.extend([source(tree.path()), OsString::from(&host.base)]);
    run.bytes = requests.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let mut collect = |line: &[u8]| {
        // The host can inject any number of lines into the output.
        made.extend(std::str::from_utf8(line).ok().filter(|line| sent.contains(line)).map(str::to_owned));
        Ok(())
    };
    let mut done = run.run(host, &mut collect).await;
    if done.as_ref().is_err_and(|failure| failure.hint == Some(Hint::NoParent)) {
        // Only on demand, as rsync before 3.2.3 lacks the option.
        run.arguments.insert(0, "--mkpath".into());
        done = run.run(host, &mut collect).await;
    }
    done?;
    let names: Vec<RepoPath> = requests.iter().map(|(path, _)| path.clone()).collect();
    let clear = move |root: &Path| names.iter().try_for_each(|path| std::fs::remove_file(root.join(path.as_str())));
    host.private.keep(on_disk(tree, clear).await?);
    Ok(made)
}

/// Removes files by name, hidden ones included.
///
/// Sends a tree of their directories without files, with rules that protect everything else on the host. (The option
/// for this purpose, `--delete-missing-args`, is broken in rsync 3.4.3 and in Debian's 3.2.7 by a security fix: the
/// host ends with "invalid file mode 00".)
pub(super) async fn delete(host: &Host, names: &[&str]) -> Result<(), Failure> {
    let directories: BTreeSet<String> = names.iter().flat_map(|name| above(name)).map(str::to_owned).collect();
    let mut rules: Vec<String> = directories.iter().map(|directory| format!("+ /{directory}/")).collect();
    rules.extend(names.iter().map(|name| format!("+ /{name}")));
    rules.push("- *".to_owned());
    let tree = host.private.empty().map_err(|e| local("the private directory", &e))?;
    let make = move |root: &Path| directories.iter().try_for_each(|d| std::fs::create_dir_all(root.join(d)));
    let tree = on_disk(tree, make).await?;
    let most = format!("--max-delete={}", names.len());
    let fixed = ["--recursive", "--delete", "--existing", "--ignore-existing", &most, "--from0", "--include-from=-"];
    let mut arguments: Vec<OsString> = fixed.iter().map(OsString::from).collect();
    arguments.extend(["--timeout=30".into(), source(tree.path()), OsString::from(&host.base)]);
    let input = rules.iter().flat_map(|rule| rule.bytes().chain([0])).collect();
    let run = Run { arguments, input, bytes: 0, file_max_bytes: 0 };
    match run.run(host, &mut |_| Ok(())).await {
        // Without the base directory there is nothing to remove.
        Err(failure) if matches!(failure.hint, Some(Hint::NoBase | Hint::NoParent)) => Ok(()),
        done => done,
    }
}

/// The parent directories of a name.
fn above(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').map(|(end, _)| &name[..end])
}

/// An rsync argument for the contents of a directory: with a trailing slash.
fn source(directory: &Path) -> OsString {
    let mut source = directory.as_os_str().to_owned();
    source.push("/");
    source
}

/// Runs `work` on the directory in a blocking thread.
async fn on_disk<F>(tree: TempDir, work: F) -> Result<TempDir, Failure>
where
    F: FnOnce(&Path) -> std::io::Result<()> + Send + 'static,
{
    let done = tokio::task::spawn_blocking(move || work(tree.path()).map(|()| tree)).await;
    match done {
        Ok(done) => done.map_err(|e| local("the private directory", &e)),
        Err(e) => Err(Failure::new(StoreErrorKind::Other, e.to_string())),
    }
}
