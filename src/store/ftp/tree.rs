//! Whole trees: recursive listing, and sweep.

use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::answer::Failure;
use super::listing::Listed;
use super::{Inner, JOBS};
use crate::format::layout::{RepoPath, TEMPORARY};
use crate::store::{Entry, StoreErrorKind};

/// Maximum number of files and directories in a recursive listing.
const ENTRIES_MAX: usize = 8_388_608;

impl Inner {
    /// The files and directories in the directory at `relative`, with paths relative to the base; none if it does not
    /// exist.
    async fn list_one(&self, relative: &str) -> Result<(Vec<Entry>, Vec<String>), Failure> {
        let (mut files, mut directories) = (Vec::new(), Vec::new());
        let mut session = self.lease().await?;
        let below = |name: &str| -> Option<RepoPath> {
            let plain = !name.contains('/');
            let path = if relative.is_empty() { name.to_owned() } else { format!("{relative}/{name}") };
            path.parse().ok().filter(|_| plain)
        };
        let directory = self.path(relative);
        let listed = session.list(&directory, |listed| {
            match listed {
                Listed::File(name, bytes) => files.extend(below(&name).map(|path| Entry { path, bytes })),
                Listed::Directory(name) => directories.extend(below(&name).map(|path| path.to_string())),
                Listed::Other => {}
            }
            check_entries(files.len() + directories.len())
        });
        match listed.await {
            Err(failure) if !session.is_missing_directory(&directory, &failure).await? => Err(failure),
            _ => Ok((files, directories)),
        }
    }

    /// Lists a whole tree, with as many directories in parallel as there are connections.
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Entry>, Failure> {
        let (mut entries, mut directories) = (Vec::new(), 1);
        let mut pending = vec![prefix.to_owned()];
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < JOBS
                && let Some(directory) = pending.pop()
            {
                running.push(async move { self.list_one(&directory).await });
            }
            let Some(listed) = running.next().await else { return Ok(entries) };
            let (files, below) = listed?;
            directories += below.len();
            entries.extend(files);
            pending.extend(below);
            check_entries(entries.len() + directories)?;
        }
    }

    /// Removes all temporary files.
    pub(super) async fn sweep(&self) -> Result<(), Failure> {
        let mut names = Vec::new();
        let mut session = self.lease().await?;
        let directory = self.path(TEMPORARY);
        let listed = session.list(&directory, |listed| {
            if let Listed::File(name, _) = listed {
                names.push(name);
            }
            check_entries(names.len())
        });
        match listed.await {
            Err(failure) if !session.is_missing_directory(&directory, &failure).await? => return Err(failure),
            _ => drop(session),
        }
        for name in names.iter().filter(|name| !name.contains('/')) {
            self.delete(&self.path(&format!("{TEMPORARY}/{name}"))).await?;
        }
        Ok(())
    }
}

fn check_entries(entries: usize) -> Result<(), Failure> {
    match entries {
        0..=ENTRIES_MAX => Ok(()),
        _ => Err(Failure::new(StoreErrorKind::Protocol, format!("a listing of more than {ENTRIES_MAX} entries"))),
    }
}
