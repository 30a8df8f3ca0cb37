//! Mirrors of every kind for one lab: real servers, their tables in mirrors.toml, and stores to inspect
//! their contents.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hfl::format::head::Trust;
use hfl::format::layout::RepoPath;
use hfl::repo;
use hfl::store::directory::Directory;
use hfl::store::retry::Retry;
use hfl::store::{Fetch, Store};
use hfl::system::host::ThisHost;
use tokio::runtime::Runtime;

use crate::support::lab::{Lab, skipped};
use crate::support::servers::{apache, local, nginx, proftpd, rclone_s3, seaweed, sshd};

/// Larger than any object.
const MAX: u64 = 64 << 20;
const AT_ONCE: usize = 16;

pub struct Kind {
    pub name: &'static str,
    /// Its table in mirrors.toml.
    pub table: String,
    /// Direct access to its contents, without the public URL or hfl.
    pub store: Arc<dyn Store>,
    environment: Vec<(&'static str, String)>,
    _server: Box<dyn std::any::Any>,
}

impl Kind {
    fn new(
        name: &'static str,
        table: String,
        store: impl Store + 'static,
        environment: &[(&'static str, &str)],
        server: impl std::any::Any,
    ) -> Self {
        let environment = environment.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        // Retries, because inspecting a store can also fail on a loaded machine.
        let store: Arc<dyn Store> = Arc::new(store);
        Self {
            name,
            table,
            store: Arc::new(Retry::new(store, Arc::new(ThisHost))),
            environment,
            _server: Box::new(server),
        }
    }

    /// A directory of the lab.
    pub fn directory(lab: &Lab, name: &'static str) -> Self {
        let table = format!("[[mirror]]\nname = \"{name}\"\nwrite = \"./{name}\"\n");
        Self::new(name, table, Directory::new(lab.path(name)), &[], ())
    }

    pub fn nginx() -> Option<Self> {
        let server = nginx::start()?;
        Some(Self::new("nginx", server.table("nginx"), server.store(), &[server.environment()], server))
    }

    pub fn apache() -> Option<Self> {
        Self::apache_at(None)
    }

    /// Apache with its tree at `root`.
    pub fn apache_at(root: Option<PathBuf>) -> Option<Self> {
        let server = apache::start_at(root)?;
        Some(Self::new("apache", server.table("apache"), server.store(), &[server.environment()], server))
    }

    /// SeaweedFS, which supports conditional requests.
    pub fn seaweed(runtime: &Runtime) -> Option<Self> {
        let server = seaweed::start()?;
        let store = runtime.block_on(server.open("seaweed"));
        Some(Self::new("seaweed", server.table("seaweed"), store, &server.environment(), server))
    }

    /// rclone, which ignores conditions.
    pub fn rclone(runtime: &Runtime) -> Option<Self> {
        let server = rclone_s3::start()?;
        let store = runtime.block_on(server.open("rclone"));
        Some(Self::new("rclone", server.table("rclone"), store, &server.environment(), server))
    }

    pub fn ftps() -> Option<Self> {
        let server = proftpd::ProFtpd::start(true, "")?;
        let store = Directory::new(server.root.join("proftpd"));
        Some(Self::new("proftpd", server.table("proftpd"), store, &[server.environment()], server))
    }

    pub fn sftp() -> Option<Self> {
        let server = sshd::Sshd::start()?;
        let store = Directory::new(server.root.join("sftp"));
        Some(Self::new("sftp", server.table("sftp", "sftp"), store, &[], server))
    }

    pub fn rsync() -> Option<Self> {
        let server = crate::support::servers::program("rsync").and_then(|_| sshd::Sshd::start())?;
        let store = Directory::new(server.root.join("rsync"));
        Some(Self::new("rsync", server.table("rsync", "rsync"), store, &[], server))
    }
}

impl Kind {
    /// Puts a relay in front of the server: mirrors.toml names the address that `relay` returns for the
    /// server's own. The public URL is changed too if it has the same port.
    pub fn behind(&mut self, relay: impl FnOnce(SocketAddr) -> SocketAddr) {
        let find = |key: &str| self.table.lines().find(|line| line.starts_with(key)).map(str::to_owned);
        let line = find("endpoint").or_else(|| find("write")).expect("a place");
        let digits = line.split("127.0.0.1:").nth(1).expect("a port of this machine");
        let port: u16 =
            digits.split(|c: char| !c.is_ascii_digit()).next().and_then(|d| d.parse().ok()).expect("a port");
        let address = relay(local(port));
        if let Some(file) = self.table.lines().find_map(|line| line.strip_prefix("known-hosts = ")) {
            let (file, port, new) = (file.trim_matches('"'), format!("]:{port} "), format!("]:{} ", address.port()));
            let lines = fs::read_to_string(file).expect("host keys");
            fs::write(file, lines.replace(&port, &new) + &lines).expect("host keys");
        }
        self.table = self.table.replace(&format!("127.0.0.1:{port}"), &address.to_string());
    }
}

/// A mirror of every kind whose server is installed. Prints a message for each missing one.
pub fn all(lab: &Lab, runtime: &Runtime) -> Vec<Kind> {
    let kinds = [
        Some(Kind::directory(lab, "here")),
        Kind::seaweed(runtime),
        Kind::rclone(runtime),
        Kind::nginx(),
        Kind::apache(),
        Kind::ftps(),
        Kind::sftp(),
        Kind::rsync(),
    ];
    let kinds: Vec<Kind> = kinds.into_iter().flatten().collect();
    if kinds.len() < 8 {
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
        skipped(&format!("some servers are not installed; those of {} are", names.join(", ")));
    }
    kinds
}

/// Writes `kinds` as the mirrors of the lab.
pub fn use_kinds(lab: &mut Lab, kinds: &[Kind]) {
    lab.write("mirrors.toml", kinds.iter().map(|kind| kind.table.as_str()).collect::<Vec<_>>().join("\n"));
    for (name, value) in kinds.iter().flat_map(|kind| &kind.environment) {
        lab.set(name, value);
    }
}

/// Every object that a store lists, with its bytes; without the lock of a publisher that may have died
/// there.
pub fn objects(runtime: &Runtime, store: &Arc<dyn Store>) -> BTreeMap<RepoPath, Bytes> {
    runtime.block_on(async {
        let listed = store.list("").await.expect("a listing");
        let paths = listed.into_iter().map(|entry| entry.path).filter(|path| path.as_str() != "publish.lock");
        let read = |path: RepoPath| async move {
            Ok::<_, hfl::store::StoreError>((path.clone(), store.get(&path, MAX).await?))
        };
        stream::iter(paths).map(read).buffer_unordered(AT_ONCE).try_collect().await.expect("all objects")
    })
}

/// Restores the earlier contents of a store.
pub fn reset(runtime: &Runtime, store: &Arc<dyn Store>, held: &BTreeMap<RepoPath, Bytes>) {
    let now = objects(runtime, store);
    runtime.block_on(async {
        let lock: RepoPath = "publish.lock".parse().expect("a path");
        let gone = now.keys().filter(|path| !held.contains_key(path)).chain([&lock]).cloned();
        let delete = |path: RepoPath| async move { store.delete(&path).await };
        stream::iter(gone).map(delete).buffer_unordered(AT_ONCE).try_collect::<()>().await.expect("removed");
        let changed = held.iter().filter(|(path, bytes)| now.get(path) != Some(bytes));
        let put = |(path, bytes): (&RepoPath, &Bytes)| {
            let (path, bytes) = (path.clone(), bytes.clone());
            async move { store.put_replace(&path, bytes).await }
        };
        stream::iter(changed.map(put)).buffer_unordered(AT_ONCE).try_collect::<()>().await.expect("written");
    });
}

/// The blocks that a store lists.
pub fn blocks(runtime: &Runtime, store: &Arc<dyn Store>) -> BTreeSet<RepoPath> {
    let listed = runtime.block_on(store.list("blocks")).expect("a listing");
    listed.into_iter().map(|entry| entry.path).collect()
}

/// Checks the invariants of a mirror: the head and its indexes verify, and every block and every
/// additional file is present and correct. Returns the versions, newest first; none if there is no head.
pub fn check_store(runtime: &Runtime, store: &dyn Fetch, image: &str, trust: &Trust) -> Vec<u32> {
    let image = image.parse().expect("a name");
    runtime.block_on(async {
        let Some(found) = repo::head(store, &image, trust).await.expect("a believed head") else { return Vec::new() };
        let list = store.get(&RepoPath::images(), MAX).await.expect("a list of images");
        let list = String::from_utf8(list.to_vec()).expect("text");
        assert!(list.lines().any(|line| line == image.as_str()), "the image is listed");
        let mut blocks = BTreeMap::new();
        for row in &found.head.versions {
            let index = repo::index(store, &image, row).await.expect("the index that the head names");
            blocks.extend(index.blocks().iter().map(|block| (block.id, *block)));
            if let Trust::Key(_) = trust {
                store.get(&row.index_path(&image).signature(), MAX).await.expect("its signature");
            }
        }
        for file in &found.head.files {
            let bytes = store.get(&file.path, file.bytes).await.expect("a further file");
            assert_eq!(hfl::format::digest::Sha256::of(&bytes), file.sha256, "{}", file.path);
        }
        let check = |row| async move { repo::block(store, &row).await.map(|_| ()) };
        let all = stream::iter(blocks.into_values()).map(check).buffer_unordered(AT_ONCE);
        all.try_collect::<()>().await.expect("every block is there and right");
        found.head.versions.iter().map(|row| row.version.number()).collect()
    })
}
