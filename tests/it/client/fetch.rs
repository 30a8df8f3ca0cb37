//! `hfl-mount fetch`: fetches everything in advance, so that no network is needed afterwards. The cache
//! serves other machines as a mirror.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hfl::format::head::Trust;
use hfl::format::index::Index;
use hfl::format::layout::RepoPath;
use hfl::format::profile::{FirstRead, Profile};
use hfl::format::signing::SecretKey;

use crate::support::fixture::{Publish, Random, image};
use crate::support::lab::{check_mirror, stderr};
use crate::support::mounting::{Mounted, WebServer, cannot_mount, client, nobody, run};
use crate::support::proxy::Proxy;

fn held(cache: &Path, index: &Index) -> usize {
    index.blocks().iter().filter(|row| cache.join(RepoPath::block(&row.id).as_str()).is_file()).count()
}

fn fetched_bytes(home: &Path, arguments: &[&str]) -> u64 {
    let output = run(home, &[&["fetch", "--json"], arguments].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    crate::support::schema::assert_is("mount-fetch", &object);
    object["fetched_bytes"].as_u64().unwrap()
}

#[test]
fn what_was_fetched_mounts_without_a_network_and_serves_as_a_mirror() {
    let home = tempfile::tempdir().unwrap();
    let (base, cache) = (home.path().join("a"), home.path().join("cache/hfl"));
    let key: SecretKey = crate::support::format_fixtures::golden_secret();
    let original = image(12 << 20);
    let index = Publish { key: Some(&key), ..Publish::default() }.write(&base, &original);
    let server = WebServer::new(&base);
    let source = format!("{}/test", server.url());
    let public = key.public().to_string();
    let first = fetched_bytes(home.path(), &["--key", &public, &source]);
    assert_eq!((held(&cache, &index), first), (index.blocks().len(), index.zlib_bytes()));
    assert_eq!(fetched_bytes(home.path(), &["--key", &public, &source]), 0, "everything is there");
    assert_eq!(check_mirror(&cache, "test", &Trust::Key(key.public().clone())), [1], "it is a whole mirror");
    drop(server);

    // Another machine, whose only mirror is this cache.
    let (other, lan) = (tempfile::tempdir().unwrap(), WebServer::new(&cache));
    let from_lan = fetched_bytes(other.path(), &["--key", &public, &format!("{}/test", lan.url())]);
    assert_eq!((from_lan, held(&other.path().join("cache/hfl"), &index)), (first, index.blocks().len()));
    if cannot_mount() {
        return;
    }
    let gone = [format!("{}/test", nobody())];
    for arguments in [&["--key", &public][..], &["--key", &public, "--mode", "hard"]] {
        let start = Instant::now();
        let mounted = Mounted::named(home.path(), arguments, &gone, "test");
        assert!(fs::read(mounted.file()).unwrap() == original);
        let said = mounted.end();
        println!("read without a network after {:.1?}", start.elapsed());
        assert!(said.contains("no mirror can be reached; version 1 is opened from the cache"), "{said}");
    }
    let other = crate::support::format_fixtures::golden_key();
    assert_eq!(other.to_string(), public);
}

#[test]
fn an_unsigned_image_opens_from_the_cache_only_where_it_was_seen() {
    if cannot_mount() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let base = home.path().join("a");
    let original = image(3 << 20);
    Publish::default().write(&base, &original);
    let server = WebServer::new(&base);
    let proxy = Proxy::start(server.address());
    let source = [format!("http://{}/test", proxy.address())];
    fetched_bytes(home.path(), &["--unsigned", &source[0]]);
    proxy.faults().refuse(true);
    let mounted = Mounted::named(home.path(), &["--unsigned"], &source, "test");
    assert!(fs::read(mounted.file()).unwrap() == original);
    mounted.end();
    let point = home.path().join("point");
    fs::create_dir(&point).unwrap();
    let other = format!("{}/test", nobody());
    let output = run(home.path(), &["--unsigned", "--timeout", "1", &other, point.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(4), "another place may have another image of this name");
}

#[test]
fn only_the_profile_is_fetched_where_that_is_enough() {
    let home = tempfile::tempdir().unwrap();
    let (base, cache) = (home.path().join("a"), home.path().join("cache/hfl"));
    let original = image(12 << 20);
    let index = Publish::default().write(&base, &original);
    let source = format!("{}/test", base.display());
    let refused = run(home.path(), &["fetch", "--unsigned", "--profile-only", &source]);
    assert!(refused.status.code() == Some(1) && stderr(&refused).contains("has no profile"), "{}", stderr(&refused));
    let reads = index.blocks().iter().skip(2).take(4).map(|row| FirstRead { id: row.id, ms: 0, offset: 0 }).collect();
    let profile = Profile::new("test".parse().unwrap(), index.header().version, reads).unwrap();
    fs::remove_file(base.join("test.head")).unwrap();
    Publish { files: vec![profile.to_file()], ..Publish::default() }.write(&base, &original);
    let bytes: u64 = index.blocks()[2..6].iter().map(|row| u64::from(row.zlib_bytes)).sum();
    assert_eq!(fetched_bytes(home.path(), &["--unsigned", "--profile-only", &source]), bytes);
    assert_eq!(held(&cache, &index), 4);
    assert!(cache.join(profile.to_file().0.path.as_str()).is_file());
}

#[test]
fn an_interrupted_fetch_goes_on_where_it_was() {
    let home = tempfile::tempdir().unwrap();
    let (base, cache) = (home.path().join("a"), home.path().join("cache/hfl"));
    let original = Random(3).bytes(12 << 20);
    let index = Publish { block_bytes: 64 << 10, ..Publish::default() }.write(&base, &original);
    let server = WebServer::new(&base);
    let proxy = Proxy::start(server.address());
    proxy.faults().rate(None, Some(2 << 20));
    let source = format!("http://{}/test", proxy.address());
    let mut command = client(home.path());
    command.args(["fetch", "--unsigned", "--jobs", "4", &source]).stdin(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    while held(&cache, &index) < 20 {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = stderr(&output);
    assert!(output.status.code() == Some(1) && said.contains("interrupted") && said.contains("run it again"), "{said}");
    let before = held(&cache, &index);
    assert!(before < index.blocks().len(), "{before} blocks");
    proxy.faults().rate(None, None);
    let damaged = index.blocks().iter().map(|row| cache.join(RepoPath::block(&row.id).as_str())).find(|p| p.is_file());
    fs::write(damaged.unwrap(), "damaged").unwrap();
    let rest = fetched_bytes(home.path(), &["--unsigned", &source]);
    println!("{before} of {} blocks before, then {rest} of {} bytes", index.blocks().len(), index.zlib_bytes());
    assert_eq!(held(&cache, &index), index.blocks().len());
    assert!(rest < index.zlib_bytes() && check_mirror(&cache, "test", &Trust::Anyone) == [1], "healed and whole");
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_fetched() {
    let home = tempfile::tempdir().unwrap();
    let (base, cache) = (home.path().join("a"), home.path().join("cache/hfl"));
    let index = Publish::default().write(&base, &image(12 << 20));
    let source = format!("{}/test", base.display());
    let refused = run(home.path(), &["fetch", "--unsigned", "--cache-size", "1M", &source]);
    let said = stderr(&refused);
    assert!(refused.status.code() == Some(1) && said.contains("do not fit") && said.contains("--cache-size"), "{said}");
    assert_eq!(held(&cache, &index), 0);
}
