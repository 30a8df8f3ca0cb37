//! A restore from mirrors that fail: it has the patience of a reader, and all mirrors of the head.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use hfl::format::layout::RepoPath;

use crate::support::fixture::{Publish, image};
use crate::support::lab::{Lab, code, stderr};
use crate::support::mounting::{WebServer, nobody};

const IMAGE_BYTES: usize = 16 << 20;

/// A server that answers every third request with this status.
fn every_third(directory: &Path, status: u16) -> (WebServer, Arc<AtomicU64>) {
    let requests = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&requests);
    let server =
        WebServer::failing(directory, move |_| count.fetch_add(1, Relaxed).is_multiple_of(3).then_some(status));
    (server, requests)
}

#[test]
fn one_answer_of_three_may_fail() {
    let (lab, bytes) = (Lab::new(), image(IMAGE_BYTES));
    let index = Publish::default().write(&lab.path("a"), &bytes);
    for status in [503, 429, 500] {
        let (server, requests) = every_third(&lab.path("a"), status);
        let source = format!("{}/test", server.url());
        let started = Instant::now();
        lab.ok(&["restore", &source, "out.img", "--unsigned", "--force"]);
        let asked = requests.load(Relaxed);
        println!("{status}: {asked} requests for {} blocks in {:.2?}", index.blocks().len(), started.elapsed());
        assert!(fs::read(lab.path("out.img")).unwrap() == bytes && asked > index.blocks().len() as u64);
    }
}

#[test]
fn what_one_mirror_lacks_comes_from_another_that_the_head_names() {
    let (lab, bytes) = (Lab::new(), image(IMAGE_BYTES));
    let (a, b) = (lab.path("a"), lab.path("b"));
    for directory in [&a, &b] {
        fs::create_dir(directory).unwrap();
    }
    let (first, second) = (WebServer::new(&a), WebServer::new(&b));
    let mirrors = vec![format!("{}/", second.url()).parse().unwrap(), format!("{}/", nobody()).parse().unwrap()];
    let publish = Publish { mirrors, ..Publish::default() };
    let index = publish.write(&a, &bytes);
    publish.write(&b, &bytes);
    for (number, row) in index.blocks().iter().enumerate() {
        let lacking = if number % 5 == 0 { &a } else { &b };
        if number % 2 == 0 {
            fs::remove_file(lacking.join(RepoPath::block(&row.id).as_str())).unwrap();
        }
    }
    let source = format!("{}/test", first.url());
    lab.ok(&["restore", &source, "out.img", "--unsigned"]);
    assert!(fs::read(lab.path("out.img")).unwrap() == bytes);
    let said = lab.fails(1, &["restore", &source, "only.img", "--unsigned", "--only", "--timeout", "1"]);
    assert!(said.contains("404") && said.contains("only.img.hfl-partial"), "{said}");
}

#[test]
fn it_gives_up_when_nothing_arrives_and_not_before() {
    let (lab, bytes) = (Lab::new(), image(IMAGE_BYTES));
    Publish::default().write(&lab.path("a"), &bytes);
    // It fails for six seconds at first, longer than the limit of this restore.
    let started = Instant::now();
    let down = |from: u64, to: u64| {
        move |path: &str| {
            let is_down = (from..to).contains(&(started.elapsed().as_millis() as u64));
            (is_down && path.starts_with("/blocks/")).then_some(503)
        }
    };
    let server = WebServer::failing(&lab.path("a"), down(0, 6000));
    let source = format!("{}/test", server.url());
    let said = lab.fails(4, &["restore", &source, "out.img", "--unsigned", "--timeout", "1"]);
    assert!(said.contains("503") && !lab.path("out.img").exists(), "{said}");
    let output = lab.run(&["restore", &source, "out.img", "--unsigned", "--timeout", "20s"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("waiting for a mirror that works"), "{}", stderr(&output));
    assert!(started.elapsed() > Duration::from_secs(6) && fs::read(lab.path("out.img")).unwrap() == bytes);
}

#[test]
fn progress_is_printed_for_programs() {
    let (lab, bytes) = (Lab::new(), image(IMAGE_BYTES));
    let index = Publish::default().write(&lab.path("a"), &bytes);
    let words = ["restore", "a/test", "out.img", "--unsigned", "--progress", "json", "--json", "--background"];
    let output = lab.run(&words);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let lines: Vec<serde_json::Value> =
        stderr(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let phases: Vec<&str> = lines.iter().filter_map(|line| line["phase"].as_str()).collect();
    assert!(phases.contains(&"fetch") && phases.last() == Some(&"verify"), "{phases:?}");
    let last = lines.last().unwrap();
    assert!(last["done"] == last["total"] && last["total"] == IMAGE_BYTES as u64, "{last}");
    assert_eq!(last["fetched"].as_u64().unwrap() + last["hole"].as_u64().unwrap(), IMAGE_BYTES as u64);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["fetched_bytes"], last["fetched"]);
    assert_eq!(report["fetched_blocks"], index.blocks().len());
    assert_eq!(report["read_back_bytes"], report["fetched_bytes"], "{report}");
    let error = lab.run(&words);
    let said = stderr(&error);
    let error: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert!(error["error"].as_str().unwrap().contains("exists already"), "{error}");
}
