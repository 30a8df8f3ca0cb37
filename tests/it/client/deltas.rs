//! Deltas that are missing, wrong or slow, and bases that are damaged: the whole block is fetched, and the cache never
//! holds anything else than the right blocks.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::evil::{Evil, FAULTS, ODDITIES};
use crate::support::lab::{Lab, Random, check_mirror, code, stderr};
use crate::support::mounting::{Mounted, WebServer, cannot_mount, run};

const BLOCKS: usize = 12;
const BLOCK_BYTES: usize = 64 << 10;

/// A lab with two versions of an image in `m`, the second with a delta for each block.
fn published() -> (Lab, Vec<u8>) {
    let lab = Lab::with_mirrors(&["m"]);
    let mut bytes = Random(1).bytes(BLOCKS * BLOCK_BYTES);
    lab.write("one.img", &bytes);
    for at in (100..bytes.len()).step_by(9_000) {
        bytes[at] ^= 1;
    }
    lab.write("two.img", &bytes);
    for image in ["one.img", "two.img"] {
        lab.publish(&[image, "--name", "os", "--split", "fixed:64K", "--deltas"]);
    }
    assert_eq!(lab.files("m/deltas").len(), BLOCKS);
    (lab, bytes)
}

/// Fetches a version from these mirrors into the cache of `home`; returns the report.
fn fetch(lab: &Lab, home: &str, version: &str, mirrors: &[String]) -> Value {
    let key = lab.path("home/.config/hfl/keys/os.pub");
    let sources: Vec<String> = mirrors.iter().map(|mirror| format!("{mirror}/os")).collect();
    let mut arguments = vec!["fetch", "--json", "--version", version, "--key", key.to_str().unwrap(), "--only"];
    arguments.extend(sources.iter().map(String::as_str));
    let output = run(&lab.path(home), &arguments);
    assert_eq!(code(&output), 0, "{mirrors:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("{key}: {report}"))
}

#[test]
fn whatever_is_wrong_with_deltas_the_block_comes() {
    let (lab, _) = published();
    let evil = Evil::start(&lab.path("m"));
    let check = |fault: &str| {
        let home = format!("home-{fault}");
        fetch(&lab, &home, "1", &[evil.url("good")]);
        let started = Instant::now();
        let report = fetch(&lab, &home, "2", &[evil.url(&format!("deltas-{fault}"))]);
        let took = started.elapsed();
        assert!(took < Duration::from_secs(10), "{fault}: {took:?}");
        let cache = lab.path(&home).join("cache/hfl");
        assert_eq!(check_mirror(&cache, "os", &lab.trust("os"))[0], 2, "{fault}");
        number(&report, "delta_blocks")
    };
    for fault in FAULTS {
        let made = check(fault);
        // A bit of a frame may mean nothing; what was made is the right block all the same.
        assert!(made == 0 || fault == "bit", "{fault}: {made}");
    }
    for oddity in ODDITIES {
        assert_eq!(check(oddity), BLOCKS as u64, "{oddity}");
    }
}

#[test]
fn another_mirror_has_the_deltas_that_one_lacks() {
    let (lab, _) = published();
    assert!(
        std::process::Command::new("cp").arg("-a").args([lab.path("m"), lab.path("n")]).status().unwrap().success()
    );
    for name in lab.files("n/deltas").iter().step_by(2) {
        fs::remove_file(lab.path("n/deltas").join(name)).unwrap();
    }
    let servers = ["n", "m"].map(|mirror| WebServer::new(&lab.path(mirror)));
    fetch(&lab, "c", "1", &[servers[0].url()]);
    let report = fetch(&lab, "c", "2", &servers.each_ref().map(WebServer::url));
    assert_eq!(number(&report, "delta_blocks"), BLOCKS as u64, "{report}");
    // Where it is the only mirror, half of the blocks are fetched whole.
    fetch(&lab, "d", "1", &[servers[0].url()]);
    let report = fetch(&lab, "d", "2", &[servers[0].url()]);
    assert_eq!(number(&report, "delta_blocks"), BLOCKS as u64 / 2, "{report}");
    assert_eq!(check_mirror(&lab.path("d/cache/hfl"), "os", &lab.trust("os"))[0], 2);
}

#[test]
fn a_damaged_or_missing_base_means_the_whole_block() {
    let (lab, _) = published();
    let server = WebServer::new(&lab.path("m"));
    fetch(&lab, "c", "1", &[server.url()]);
    let blocks = lab.files("c/cache/hfl/blocks");
    let at = |i: usize| lab.path("c/cache/hfl/blocks").join(&blocks[i]);
    fs::remove_file(at(0)).unwrap();
    let mut damaged = fs::read(at(1)).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 4;
    fs::write(at(1), damaged).unwrap();
    let report = fetch(&lab, "c", "2", &[server.url()]);
    assert_eq!(number(&report, "delta_blocks"), BLOCKS as u64 - 2, "{report}");
    assert!(!at(1).exists(), "the damaged file is dropped");
    let again = fetch(&lab, "c", "2", &[server.url()]);
    assert_eq!(number(&again, "fetched_bytes"), 0, "the cache has all blocks, and reads them: {again}");
    // A client without the old version asks for no deltas.
    let report = fetch(&lab, "d", "2", &[server.url()]);
    assert_eq!((number(&report, "delta_blocks"), lab.path("d/cache/hfl/update").exists()), (0, false));
}

#[test]
fn a_mount_uses_deltas_where_the_old_version_is_in_its_cache() {
    if cannot_mount() {
        return;
    }
    let (lab, bytes) = published();
    let server = WebServer::new(&lab.path("m"));
    fetch(&lab, "c", "1", &[server.url()]);
    let key = lab.path("home/.config/hfl/keys/os.pub");
    let home = lab.path("c");
    let mounted = Mounted::new(&home, &["--key", key.to_str().unwrap()], &[&server.url()], "os");
    let started = Instant::now();
    let status = || -> Value {
        let output = run(&home, &["status", "--json", mounted.point().to_str().unwrap()]);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    // The list of deltas comes in the background.
    while !lab.path("c/cache/hfl/update").exists() {
        assert!(started.elapsed() < Duration::from_secs(10), "the update is not fetched");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(200));
    assert!(fs::read(mounted.file()).unwrap() == bytes);
    let status = status();
    assert_eq!(number(&status, "delta_blocks"), BLOCKS as u64, "{status}");
    assert!(number(&status, "delta_saved_bytes") > 9 * number(&status, "delta_bytes"), "{status}");
    let output = run(&home, &["status", mounted.point().to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("deltas    12 of these blocks"), "{text}");
}

#[test]
fn a_mount_tells_that_there_is_a_newer_version_and_what_it_costs() {
    if cannot_mount() {
        return;
    }
    let (lab, mut bytes) = published();
    let server = WebServer::new(&lab.path("m"));
    let (key, home) = (lab.path("home/.config/hfl/keys/os.pub"), lab.path("c"));
    let arguments = ["--key", key.to_str().unwrap(), "--look-for-newer", "1s"];
    let mounted = Mounted::new(&home, &arguments, &[&server.url()], "os");
    let status = |more: &[&str]| {
        let output = run(&home, &[&["status", mounted.point().to_str().unwrap()], more].concat());
        String::from_utf8(output.stdout).unwrap()
    };
    std::thread::sleep(Duration::from_millis(2500));
    assert!(!status(&[]).contains("newer"), "{}", status(&[]));
    bytes[5] ^= 1;
    bytes[5 + 3 * BLOCK_BYTES] ^= 1;
    lab.write("three.img", &bytes);
    let report = lab.publish(&["three.img", "--name", "os", "--split", "fixed:64K", "--deltas"]);
    let started = Instant::now();
    while !status(&[]).contains("newer     version 3") {
        assert!(started.elapsed() < Duration::from_secs(15), "{}", status(&[]));
        std::thread::sleep(Duration::from_millis(100));
    }
    let status: Value = serde_json::from_str(&status(&["--json"])).unwrap();
    let index_bytes = number(&report, "index_bytes");
    assert_eq!(number(&status, "newer_download_bytes"), number(&report["updates"][0], "block_bytes") + index_bytes);
    let with = number(&report["updates"][0], "download_bytes") + index_bytes;
    assert_eq!(number(&status, "newer_download_bytes_with_deltas"), with);
    assert_eq!(number(&status, "version"), 2, "the mount stays what it is");
    std::thread::sleep(Duration::from_millis(2500));
    let said = mounted.end();
    assert_eq!(said.matches("version 3 is there").count(), 1, "{said}");
}

#[test]
fn one_good_mirror_among_all_bad_ones_is_enough() {
    let (lab, _) = published();
    let evil = Evil::start(&lab.path("m"));
    fetch(&lab, "c", "1", &[evil.url("good")]);
    let mirrors: Vec<String> = FAULTS.iter().chain(&["good"]).map(|fault| evil.url(fault)).collect();
    let report = fetch(&lab, "c", "2", &mirrors);
    println!("{report}, {} faults", evil.faults());
    assert!(evil.faults() > 0, "the bad ones were asked");
    assert_eq!(check_mirror(&lab.path("c/cache/hfl"), "os", &lab.trust("os"))[0], 2);
    let again = fetch(&lab, "c", "2", &[evil.url("404")]);
    assert_eq!(number(&again, "fetched_bytes"), 0, "{again}");
}
