//! A restore that was killed is continued: what lies right in the partial file is not fetched again, and nothing else in
//! it is believed.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use hfl::format::index::Index;

use crate::support::fixture::{Publish, Random, image};
use crate::support::lab::{Lab, code, full, skipped, stderr};
use crate::support::loop_device::LoopDevice;
use crate::support::mounting::{Asked, WebServer};
use crate::support::servers::program;
use crate::support::through::through;

const IMAGE_BYTES: usize = 64 << 20;
const BLOCK_BYTES: usize = 64 << 10;

fn publish(lab: &Lab, bytes: &[u8]) -> Index {
    Publish { block_bytes: BLOCK_BYTES, ..Publish::default() }.write(&lab.path("a"), bytes)
}

/// Compressed bytes of the blocks that were requested.
fn bytes_of(asked: &[String], index: &Index) -> u64 {
    let sizes: HashMap<String, u64> =
        index.blocks().iter().map(|row| (row.id.to_string(), u64::from(row.zlib_bytes))).collect();
    asked.iter().map(|block| sizes[block]).sum()
}

/// Starts a restore and kills it once so many blocks were requested; returns what was requested.
fn killed(lab: &Lab, words: &[&str], asked: &Asked, blocks: usize) -> Vec<String> {
    let mut child = lab.command(words).spawn().unwrap();
    let (started, mut all) = (Instant::now(), Vec::new());
    while all.len() < blocks {
        all.extend(asked.take());
        assert!(started.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none(), "{}", all.len());
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    all.extend(asked.take());
    all
}

#[test]
fn after_a_kill_at_most_a_fiftieth_is_fetched_again() {
    let (lab, bytes) = (Lab::new(), image(IMAGE_BYTES));
    let index = publish(&lab, &bytes);
    let (server, asked) = WebServer::noting(&lab.path("a"), Duration::from_millis(2));
    let source = format!("{}/test", server.url());
    let words = ["restore", &source, "out.img", "--unsigned", "-q"];
    let total = index.zlib_bytes();
    for round in 1..=4 {
        let first = bytes_of(&killed(&lab, &words, &asked, index.blocks().len() * round / 5), &index);
        assert!(!lab.path("out.img").exists() && lab.path("out.img.hfl-partial").exists());
        lab.ok(&words);
        let second = bytes_of(&asked.take(), &index);
        let again = (first + second).saturating_sub(total);
        println!("{first} of {total} bytes before the kill, {second} after it: {again} twice");
        assert!(again * 50 <= total, "{again} of {total}");
        assert!(fs::read(lab.path("out.img")).unwrap() == bytes && !lab.path("out.img.hfl-partial").exists());
        fs::remove_file(lab.path("out.img")).unwrap();
    }
    // Killed again and again, it still ends.
    for round in 1..=5 {
        let left = index.blocks().len() / 8;
        let asked = killed(&lab, &words, &asked, left);
        assert!(asked.len() < left * 2, "round {round}");
    }
    lab.ok(&words);
    let rest = asked.take().len();
    assert!(rest < index.blocks().len() / 2, "{rest}");
    assert!(fs::read(lab.path("out.img")).unwrap() == bytes);
}

#[test]
fn a_partial_file_that_was_damaged_is_repaired() {
    let (lab, bytes) = (Lab::new(), image(IMAGE_BYTES));
    let index = publish(&lab, &bytes);
    let (server, asked) = WebServer::noting(&lab.path("a"), Duration::from_millis(1));
    let source = format!("{}/test", server.url());
    let words = ["restore", &source, "out.img", "--unsigned", "-q"];
    let mut random = Random(3);
    for round in 0..if full() { 40 } else { 4 } {
        killed(&lab, &words, &asked, index.blocks().len() / 2);
        let partial = fs::File::options().write(true).open(lab.path("out.img.hfl-partial")).unwrap();
        for _ in 0..20 {
            let at = random.below(IMAGE_BYTES as u64 - 5000);
            let length = 1 + random.below(5000) as usize;
            // As after a power cut, or by a mistake: also in holes, and behind the end.
            let damage = if random.below(2) == 0 { vec![0; length] } else { random.bytes(length) };
            partial.write_all_at(&damage, at).unwrap();
        }
        match round % 4 {
            0 => partial.set_len(IMAGE_BYTES as u64 + 12_345).unwrap(),
            1 => partial.set_len(random.below(IMAGE_BYTES as u64)).unwrap(),
            _ => {}
        }
        lab.ok(&words);
        assert!(fs::read(lab.path("out.img")).unwrap() == bytes, "round {round}");
        let repaired = asked.take().len();
        assert!(round % 4 == 1 || repaired < index.blocks().len() * 3 / 4, "{repaired}");
        fs::remove_file(lab.path("out.img")).unwrap();
    }
}

#[test]
fn it_starts_over_where_that_is_wanted_and_continues_with_another_version() {
    let (lab, mut bytes) = (Lab::new(), image(IMAGE_BYTES));
    let index = publish(&lab, &bytes);
    let (server, asked) = WebServer::noting(&lab.path("a"), Duration::from_millis(1));
    let source = format!("{}/test", server.url());
    let words = ["restore", &source, "out.img", "--unsigned", "-q"];
    killed(&lab, &words, &asked, index.blocks().len() / 2);
    lab.ok(&[&words[..], &["--restart"]].concat());
    assert_eq!(asked.take().len(), index.blocks().len());
    fs::remove_file(lab.path("out.img")).unwrap();

    killed(&lab, &words, &asked, index.blocks().len() / 2);
    // Data become a hole and the other way round, and the image is longer.
    bytes[..1 << 20].fill(0);
    bytes[8 << 20..9 << 20].copy_from_slice(&Random(9).bytes(1 << 20));
    bytes.extend(Random(10).bytes(1 << 20));
    Publish { version: 2, block_bytes: BLOCK_BYTES, ..Publish::default() }.write(&lab.path("a"), &bytes);
    lab.ok(&words);
    let fetched = asked.take().len();
    assert!(fetched < index.blocks().len() * 3 / 4, "{fetched}");
    assert!(fs::read(lab.path("out.img")).unwrap() == bytes);
}

#[test]
fn a_device_is_continued_in_place() {
    let (lab, bytes) = (Lab::new(), image(IMAGE_BYTES));
    let index = publish(&lab, &bytes);
    let (server, asked) = WebServer::noting(&lab.path("a"), Duration::from_millis(2));
    let source = format!("{}/test", server.url());
    let Some(device) = LoopDevice::new(&lab.path("disk"), IMAGE_BYTES as u64) else { return };
    let words = ["restore", &source, &device.0, "--unsigned"];
    let child = lab.command(&words).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut before = Vec::new();
    while before.len() < index.blocks().len() / 2 {
        before.extend(asked.take());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(code(&output) == 130 && stderr(&output).contains("--in-place"), "{output:?}");
    before.extend(asked.take());
    lab.ok(&[&words[..], &["--in-place"]].concat());
    let (first, second) = (bytes_of(&before, &index), bytes_of(&asked.take(), &index));
    let again = (first + second).saturating_sub(index.zlib_bytes());
    assert!(again * 50 <= index.zlib_bytes(), "{again}");
    assert!(fs::read(&device.0).unwrap() == bytes);
}

/// What is written but does not reach the medium is noticed, since it is read back from there.
#[test]
fn a_medium_that_loses_a_write_is_noticed() {
    let (lab, bytes) = (Lab::new(), image(8 << 20));
    Publish::default().write(&lab.path("a"), &bytes);
    let Some(strace) = program("strace") else { return skipped("no strace") };
    // The tenth write is not carried out, though it succeeds.
    let inject = "inject=pwrite64:retval=262144:when=10";
    let run = |more: &[&str]| {
        let mut command = Command::new(&strace);
        command.args(["-f", "-o", "trace", "-e", "trace=pwrite64,fsync,fadvise64,pread64,renameat2", "-e", inject]);
        through(&mut command, lab.command(&["restore", "a/test", "out.img", "--unsigned"]).args(more));
        command.output().unwrap()
    };
    let lost = run(&[]);
    let said = stderr(&lost);
    if said.contains("ptrace") || said.contains("PTRACE") {
        return skipped("no process can be traced here");
    }
    assert!(code(&lost) == 1 && said.contains("are not what was written"), "{said}");
    assert!(!lab.path("out.img").exists());
    let trace = fs::read_to_string(lab.path("trace")).unwrap();
    let (before, after) = trace.split_once("fadvise64(").expect("the page cache is dropped");
    let reads =
        |trace: &str| trace.lines().filter(|line| line.contains("pread64") && line.contains(" 262144, ")).count();
    assert!(before.contains("fsync(") && reads(before) == 0 && reads(after) > 10, "{trace}");
    // Nobody looks.
    fs::remove_file(lab.path("out.img.hfl-partial")).unwrap();
    assert_eq!(code(&run(&["--no-verify"])), 0);
    assert!(fs::read(lab.path("out.img")).unwrap() != bytes);
    fs::rename(lab.path("out.img"), lab.path("out.img.hfl-partial")).unwrap();
    // What was lost is fetched again, or was there twice.
    let report = lab.ok(&["restore", "a/test", "out.img", "--unsigned", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert!(
        report["fetched_blocks"].as_u64().unwrap() < 5 && fs::read(lab.path("out.img")).unwrap() == bytes,
        "{report}"
    );
}
