//! A store that still returns the state before: what hfl has just written is not there yet for a reader.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hfl::Error;
use hfl::config::Mirror;
use hfl::format::layout::{Kind, RepoPath};
use hfl::publish::{Connect, GcReport};
use hfl::store::directory::Directory;
use hfl::store::{Entry, Exclusive, Fetch, Freshness, Lock, Put, Store, StoreError, StoreErrorKind, Swap};

use crate::support::lab::{Lab, check_mirror, two_images};
use crate::support::library::{OtherClock, keep_one, repository};

/// A directory in which the records of these versions cannot be read yet. Listings show them.
#[derive(Debug)]
struct Stale {
    directory: Directory,
    hidden: Vec<u32>,
}

#[async_trait]
impl Fetch for Stale {
    async fn get_with(&self, path: &RepoPath, max_bytes: u64, freshness: Freshness) -> Result<Bytes, StoreError> {
        match path.kind() {
            Kind::Retirement(_, version, _) if self.hidden.contains(&version.number()) => {
                Err(StoreError::at(self.location(), path, StoreErrorKind::NotFound, "not there yet"))
            }
            _ => self.directory.get_with(path, max_bytes, freshness).await,
        }
    }

    fn location(&self) -> &str {
        self.directory.location()
    }
}

#[async_trait]
impl Store for Stale {
    async fn put_new(&self, path: &RepoPath, bytes: Bytes) -> Result<Put, StoreError> {
        self.directory.put_new(path, bytes).await
    }

    async fn put_replace(&self, path: &RepoPath, bytes: Bytes) -> Result<(), StoreError> {
        self.directory.put_replace(path, bytes).await
    }

    async fn swap(&self, path: &RepoPath, old: Option<&[u8]>, new: Bytes) -> Result<Swap, StoreError> {
        self.directory.swap(path, old, new).await
    }

    async fn size(&self, path: &RepoPath) -> Result<Option<u64>, StoreError> {
        self.directory.size(path).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        self.directory.list(prefix).await
    }

    async fn delete(&self, path: &RepoPath) -> Result<(), StoreError> {
        self.directory.delete(path).await
    }

    async fn native_lock(&self) -> Result<Option<Arc<dyn Lock>>, StoreError> {
        self.directory.native_lock().await
    }

    fn exclusive(&self) -> Exclusive {
        self.directory.exclusive()
    }
}

#[derive(Debug)]
struct Connected(Vec<u32>);

#[async_trait]
impl Connect for Connected {
    async fn store(&self, config: &Mirror, relative_to: &Path) -> Result<Arc<dyn Store>, Error> {
        let directory = Directory::new(relative_to.join(config.name.as_str()));
        Ok(Arc::new(Stale { directory, hidden: self.0.clone() }))
    }

    fn public(&self, _: &Mirror) -> Result<Option<Arc<dyn Fetch>>, Error> {
        Ok(None)
    }
}

/// Keeps one version, ten days from now, with a grace period of seven days. The records of `hidden` cannot be read.
fn collect(lab: &Lab, hidden: &[u32]) -> Result<GcReport, Error> {
    let mut repository = repository(lab);
    repository.host = Arc::new(OtherClock { ahead_seconds: 10 * 86_400 });
    repository.connect = Arc::new(Connected(hidden.to_vec()));
    keep_one(&repository)
}

fn blocks(lab: &Lab) -> BTreeSet<String> {
    lab.files("a").into_iter().filter(|file| file.starts_with("blocks/")).collect()
}

/// Version 1 was retired ten days ago. Version 3 has the same contents, and is retired now.
fn one_due() -> Lab {
    let lab = Lab::with_mirrors(&["a"]);
    two_images(&lab, 60);
    for image in ["one.img", "two.img"] {
        lab.publish(&[image, "--name", "os"]);
    }
    lab.ok(&["gc", "--to", "mirrors.toml", "--keep", "1", "--more-than-half"]);
    for image in ["one.img", "two.img"] {
        lab.publish(&[image, "--name", "os"]);
    }
    lab
}

#[test]
fn a_version_that_was_just_retired_keeps_its_blocks_though_its_record_is_not_there_yet() {
    let lab = one_due();
    let before = blocks(&lab);
    for hidden in [&[2, 3][..], &[3]] {
        let report = collect(&lab, hidden);
        assert_eq!(blocks(&lab), before, "{report:?}");
    }
    // The records are there now. Version 1 goes, and its blocks stay for version 3.
    let report = collect(&lab, &[]).unwrap();
    assert_eq!(report.swept.versions, ["os 1"]);
    assert_eq!((report.swept.pending.len(), blocks(&lab)), (2, before));
    assert_eq!(check_mirror(&lab.path("a"), "os", &lab.trust("os")), [4]);
}

/// A later collection by another machine: a record that is listed and cannot be read leaves its mirror in doubt.
#[test]
fn a_record_that_is_listed_and_not_there_is_not_taken_for_absent() {
    let lab = one_due();
    lab.ok(&["gc", "--to", "mirrors.toml", "--keep", "1", "--more-than-half"]);
    let before = lab.files("a");
    let failed = collect(&lab, &[3]).unwrap_err();
    assert!(failed.to_string().contains("retired/os/3-") && failed.to_string().contains("not there"), "{failed}");
    assert_eq!(lab.files("a"), before);
}
