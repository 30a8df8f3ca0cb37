//! A caching proxy in front of a mirror: what it keeps is neither an old head nor a damaged object for long.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use hfl::layout::RepoPath;

use crate::fixture::{Publish, image};
use crate::lab::{Lab, skipped, stderr};
use crate::mounting::run;
use crate::servers::caching::CachingProxy;

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

/// Fetches into a cache; the version that came.
fn fetched(lab: &Lab, proxy: &CachingProxy) -> u64 {
    let output = run(&lab.path("home"), &["fetch", "--unsigned", "--json", &format!("{}/test", proxy.url())]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    report["version"].as_u64().unwrap()
}

/// Asks for an object as any other client of the proxy might have done.
fn ask(proxy: &CachingProxy, path: &str) {
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_new_version_is_seen_through_a_proxy_that_keeps_the_old_head() {
    let Some((lab, proxy)) = behind_a_proxy() else { return };
    let publish = |version| {
        Publish { version, ..Publish::default() }.write(&lab.path("a"), &image((2 << 20) + version as usize));
    };
    publish(1);
    ask(&proxy, "test.head");
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
    // A byte is other, the end is missing, something was added, and an index that is damaged.
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
        ask(&proxy, object);
        fs::write(&file, good).unwrap();
        ask(&proxy, object);
        assert_eq!(proxy.answers(object), ["MISS", "HIT"], "the proxy keeps it");
    }
    lab.ok(&["restore", &format!("{}/test", proxy.url()), "out.img", "--unsigned"]);
    assert!(fs::read(lab.path("out.img")).unwrap() == bytes);
    for object in &damaged {
        assert_eq!(proxy.answers(object), ["MISS", "HIT", "HIT", "BYPASS"], "{object}");
    }
    // The proxy has the right ones now.
    assert_eq!(fetched(&lab, &proxy), 1);
    for object in &damaged {
        assert_eq!(proxy.answers(object), ["MISS", "HIT", "HIT", "BYPASS", "HIT"], "{object}");
    }
}
