//! The cost of an operation does not grow faster than its input. The tests count reads, with many images and with long
//! histories.

use std::fs;
use std::process::{Command, Stdio};

use crate::support::lab::{Lab, Random, skipped};
use crate::support::servers::program;
use crate::support::through::through;

/// A repository of `count` images with one version each, on one mirror.
fn repository(count: usize) -> Lab {
    let lab = Lab::with_mirrors(&["a"]);
    lab.write("o.img", Random(1).bytes(20_000));
    for i in 0..count {
        lab.ok(&["publish", "o.img", "--name", &format!("o{i}"), "--to", "mirrors.toml", "-q"]);
    }
    lab
}

/// The number of times that hfl opens files of this kind during a command. `None` if that cannot be counted here.
fn opens(lab: &Lab, arguments: &[&str], kind: &str) -> Option<usize> {
    let strace = program("strace")?;
    let log = lab.path("opens");
    let mut traced = Command::new(strace);
    traced.args(["-f", "-qq", "-e", "trace=open,openat,openat2", "-o"]).arg(&log);
    through(&mut traced, &lab.command(arguments)).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = traced.output().ok()?;
    if !output.status.success() {
        println!("{}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    let wanted = format!("{kind}\"");
    Some(fs::read_to_string(log).ok()?.lines().filter(|line| line.contains(&wanted)).count())
}

/// Each head is read once per run, not once per key or per image.
#[test]
fn heads_are_read_once() {
    for count in [10, 30] {
        let lab = repository(count);
        let runs: [&[&str]; 3] = [
            &["publish", "o.img", "--name", "o0", "--to", "mirrors.toml", "-q"],
            &["sync", "--to", "mirrors.toml", "-q"],
            &["gc", "--to", "mirrors.toml", "--keep", "5", "-q"],
        ];
        for run in runs {
            let Some(reads) = opens(&lab, run, ".head") else {
                return skipped("opens cannot be counted here (strace)");
            };
            println!("{count} images, {}: {reads} heads read", run[0]);
            assert!(reads >= count, "each head is read: {reads}");
            assert!(reads <= count + 2, "{reads} heads are read by {}, of {count} images", run[0]);
        }
    }
}

/// Of a long history, only the newest indexes are read, within a budget.
#[test]
fn old_indexes_are_not_read() {
    let lab = Lab::with_mirrors(&["a"]);
    let mut image = Random(1).bytes(16 << 20);
    for version in 1..=12_u64 {
        image[..4096].copy_from_slice(&Random(version).bytes(4096));
        lab.write("os.img", &image);
        lab.ok(&["publish", "os.img", "--to", "mirrors.toml", "-q", "--split", "fixed:4096"]);
    }
    image[..4096].copy_from_slice(&Random(99).bytes(4096));
    lab.write("os.img", &image);
    let run = ["publish", "os.img", "--to", "mirrors.toml", "-q", "--split", "fixed:4096"];
    let Some(reads) = opens(&lab, &run, ".idx") else { return skipped("opens cannot be counted here (strace)") };
    let index = lab.files("a").into_iter().find(|f| f.ends_with(".idx")).expect("an index");
    let bytes = fs::metadata(lab.path("a").join(index)).expect("an index").len();
    println!("12 versions with indexes of {bytes} bytes: {reads} are read");
    assert!(reads >= 2, "the newest one, and the new one that is read back");
    // One of the reads is of the new index, which this run has written.
    assert!(reads as u64 * bytes < (8 << 20) + 3 * bytes, "{reads} indexes of {bytes} bytes");
}
