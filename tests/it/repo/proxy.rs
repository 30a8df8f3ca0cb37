//! A caching proxy in front of a mirror: neither an old head nor a damaged object in its cache affects clients for
//! long.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hfl::format::layout::RepoPath;
use hfl::repo::{BlockSource as _, Mirror};
use hfl::store::directory::Directory;
use hfl::store::{Fetch, Freshness, StoreError, StoreErrorKind};

use crate::support::fixture::{Publish, image};
use crate::support::lab::{Lab, skipped, stderr};
use crate::support::mounting::run;
use crate::support::servers::caching::CachingProxy;

/// A repository `a` behind a proxy.
fn behind_a_proxy() -> Option<(Lab, CachingProxy)> {
    let lab = Lab::new();
    fs::create_dir(lab.path("a")).unwrap();
    let Some(proxy) = CachingProxy::start(&lab.path("a")) else {
        skipped("no nginx");
        return None;
    };
    Some((lab, proxy))
}

/// Fetches into a cache. Returns the version.
fn fetched(lab: &Lab, proxy: &CachingProxy) -> u64 {
    let output = run(&lab.path("home"), &["fetch", "--unsigned", "--json", &format!("{}/test", proxy.url())]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    report["version"].as_u64().unwrap()
}

/// Requests an object, as any other client of the proxy may have done, and expects this status.
fn ask(proxy: &CachingProxy, path: &str, status: u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(format!("HTTP/1.1 {status}").as_bytes()), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_new_version_is_seen_through_a_proxy_that_keeps_the_old_head() {
    let Some((lab, proxy)) = behind_a_proxy() else { return };
    let publish = |version| {
        Publish { version, ..Publish::default() }.write(&lab.path("a"), &image((2 << 20) + version as usize));
    };
    publish(1);
    ask(&proxy, "test.head", 200);
    assert_eq!(fetched(&lab, &proxy), 1);
    publish(2);
    assert_eq!(fetched(&lab, &proxy), 2);
    publish(3);
    let log: serde_json::Value =
        serde_json::from_str(&lab.ok(&["log", &format!("{}/test", proxy.url()), "--unsigned", "--json"])).unwrap();
    assert_eq!(log["versions"][0]["version"], 3, "{log}");
    let answers = proxy.answers("test.head");
    assert_eq!(answers, ["MISS", "BYPASS", "BYPASS", "BYPASS"]);
}

#[test]
fn what_was_damaged_on_its_way_into_the_proxy_is_right_at_the_second_try() {
    let Some((lab, proxy)) = behind_a_proxy() else { return };
    let bytes = image(4 << 20);
    let index = Publish::default().write(&lab.path("a"), &bytes);
    let path = |block: usize| RepoPath::block(&index.blocks()[block].id).as_str().to_owned();
    let index_path = lab.files("a").into_iter().find(|file| file.ends_with(".idx")).unwrap();
    // In this order: a changed byte, a missing end, added bytes, and a damaged index.
    let damaged = [path(0), path(1), path(2), index_path];
    for (number, object) in damaged.iter().enumerate() {
        let (file, mut wrong) = (lab.path("a").join(object), fs::read(lab.path("a").join(object)).unwrap());
        let good = wrong.clone();
        match number {
            1 => wrong.truncate(good.len() / 2),
            2 => wrong.resize(1 << 20, 7),
            _ => wrong[good.len() / 2] ^= 1,
        }
        fs::write(&file, wrong).unwrap();
        ask(&proxy, object, 200);
        fs::write(&file, good).unwrap();
        ask(&proxy, object, 200);
        assert_eq!(proxy.answers(object), ["MISS", "HIT"], "the proxy keeps it");
    }
    lab.ok(&["restore", &format!("{}/test", proxy.url()), "out.img", "--unsigned"]);
    assert!(fs::read(lab.path("out.img")).unwrap() == bytes);
    for object in &damaged {
        assert_eq!(proxy.answers(object), ["MISS", "HIT", "HIT", "BYPASS"], "{object}");
    }
    // The proxy has the correct objects now.
    assert_eq!(fetched(&lab, &proxy), 1);
    for object in &damaged {
        assert_eq!(proxy.answers(object), ["MISS", "HIT", "HIT", "BYPASS", "HIT"], "{object}");
    }
}

#[test]
fn what_was_not_there_when_the_proxy_was_asked_first_is_there_at_the_second_try() {
    let Some((lab, proxy)) = behind_a_proxy() else { return };
    let bytes = image(4 << 20);
    let index = Publish::default().write(&lab.path("a"), &bytes);
    let path = |block: usize| RepoPath::block(&index.blocks()[block].id).as_str().to_owned();
    let index_path = lab.files("a").into_iter().find(|file| file.ends_with(".idx")).unwrap();
    let early = [path(0), index_path];
    for object in &early {
        let (file, away) = (lab.path("a").join(object), lab.path("away"));
        fs::rename(&file, &away).unwrap();
        ask(&proxy, object, 404);
        fs::rename(&away, &file).unwrap();
        ask(&proxy, object, 404);
    }
    lab.ok(&["restore", &format!("{}/test", proxy.url()), "out.img", "--unsigned"]);
    assert!(fs::read(lab.path("out.img")).unwrap() == bytes);
    for object in &early {
        assert_eq!(proxy.answers(object), ["MISS", "HIT", "HIT", "BYPASS"], "{object}");
    }
}

/// A store behind a cache that responds with this error, unless a request bypasses the cache.
#[derive(Debug)]
struct Stale(Directory, StoreErrorKind, bool, Mutex<Vec<Freshness>>);

#[async_trait::async_trait]
impl Fetch for Stale {
    async fn get_with(&self, path: &RepoPath, max_bytes: u64, freshness: Freshness) -> Result<Bytes, StoreError> {
        self.3.lock().unwrap().push(freshness);
        if freshness == Freshness::Confirmed {
            return self.0.get(path, max_bytes).await;
        }
        let error = StoreError::at("http://mirror/", path, self.1, "not from here");
        Err(if self.2 { error.cut() } else { error })
    }

    fn location(&self) -> &str {
        self.0.location()
    }
}

#[tokio::test]
async fn one_of_several_mirrors_that_lacks_a_block_is_asked_once_and_past_caches_when_nobody_has_it() {
    use Freshness::{Cached, Confirmed};
    let home = tempfile::tempdir().unwrap();
    let row = Publish::default().write(home.path(), &image(1 << 20)).blocks()[0];
    let stale = |kind, cut| Arc::new(Stale(Directory::new(home.path()), kind, cut, Mutex::default()));
    let asked = |store: &Stale| std::mem::take(&mut *store.3.lock().unwrap());
    let store = stale(StoreErrorKind::NotFound, false);
    let mirror = Mirror::new(Arc::clone(&store) as Arc<dyn Fetch>);
    assert!(mirror.fetch(&row).await.is_err());
    assert_eq!(asked(&store), [Cached], "it may lag");
    mirror.fetch(&row).await.unwrap();
    assert_eq!(asked(&store), [Confirmed], "no other mirror had it");
    assert!(mirror.fetch(&row).await.is_err());
    assert_eq!(asked(&store), [Cached], "all over again");
    Mirror::only(Arc::clone(&store) as Arc<dyn Fetch>).fetch(&row).await.unwrap();
    assert_eq!(asked(&store), [Cached, Confirmed], "nobody else can have it");
    // A truncated response may come from the cache, so the cache is bypassed. An unreachable mirror is not asked again.
    let cut = stale(StoreErrorKind::Unreachable, true);
    Mirror::new(Arc::clone(&cut) as Arc<dyn Fetch>).fetch(&row).await.unwrap();
    assert_eq!(asked(&cut), [Cached, Confirmed]);
    let away = stale(StoreErrorKind::Unreachable, false);
    assert!(Mirror::new(Arc::clone(&away) as Arc<dyn Fetch>).fetch(&row).await.is_err());
    assert_eq!(asked(&away), [Cached]);
}
