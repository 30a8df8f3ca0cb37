//! A restore in place: blocks of the old content are kept or moved, only what differs is written, and however often it
//! is killed, it ends right.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::fixture::Publish;
use crate::support::lab::{Lab, Random, full, make_ext4, make_tree, skipped, two_images};
use crate::support::loop_device::LoopDevice;
use crate::support::mounting::WebServer;

const BLOCK_BYTES: usize = 64 << 10;

/// Runs a restore in place and returns its report.
fn update(lab: &Lab, source: &str, out: &str, more: &[&str]) -> serde_json::Value {
    let words = [&["restore", source, out, "--unsigned", "--in-place", "--json"][..], more].concat();
    serde_json::from_str(&lab.ok(&words)).unwrap()
}

fn number(report: &serde_json::Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("no {key} in {report}"))
}

/// Blocks of fixed size, each of other contents; 0 is a hole.
fn blocks(numbers: &[u64]) -> Vec<u8> {
    let block = |&number: &u64| if number == 0 { vec![0; BLOCK_BYTES] } else { Random(number).bytes(BLOCK_BYTES) };
    numbers.iter().flat_map(block).collect()
}

#[test]
fn blocks_change_places_without_a_download() {
    let lab = Lab::new();
    let fixed = Publish { block_bytes: BLOCK_BYTES, ..Publish::default() };
    // Old content, new content, and how many blocks must be downloaded.
    let cases: [(&[u64], &[u64], u64); 7] = [
        (&[1, 2, 3, 4], &[2, 1, 3, 4], 0),
        (&[1, 2, 3, 4, 5, 6], &[6, 1, 2, 3, 4, 5], 0),
        (&[1, 2, 3, 4, 5, 6], &[2, 3, 1, 5, 6, 4], 0),
        (&[1, 2, 3, 4], &[9, 2, 1, 1, 0, 8], 2),
        (&[1, 2, 0, 0, 3], &[0, 3, 1, 0, 2], 0),
        (&[1, 2, 3, 4, 5, 6, 7, 8], &[8, 7], 0),
        (&[1, 2, 3], &[1, 2, 3], 0),
    ];
    for (number_of, (old, new, fetched)) in cases.into_iter().enumerate() {
        let name = format!("a{number_of}");
        fixed.write(&lab.path(&name), &blocks(new));
        let disk = (new.len().max(old.len()) * BLOCK_BYTES) as u64;
        let device = LoopDevice::new(&lab.path("disk"), disk);
        for out in [Some("out.img".to_owned()), device.as_ref().map(|device| device.0.clone())].into_iter().flatten() {
            let path = lab.path(&out);
            if out == "out.img" {
                // Its zeros are holes.
                let file = fs::File::create(&path).unwrap();
                file.set_len((old.len() * BLOCK_BYTES) as u64).unwrap();
                for (place, number) in old.iter().enumerate().filter(|(_, number)| **number != 0) {
                    let at = (place * BLOCK_BYTES) as u64;
                    std::os::unix::fs::FileExt::write_all_at(&file, &blocks(&[*number]), at).unwrap();
                }
            } else {
                Command::new("dd").arg("if=/dev/zero").arg(format!("of={out}")).arg("bs=1M").output().unwrap();
                let file = fs::File::options().write(true).open(&path).unwrap();
                std::os::unix::fs::FileExt::write_all_at(&file, &blocks(old), 0).unwrap();
                file.sync_all().unwrap();
            }
            let report = update(&lab, &format!("{name}/test"), &out, &[]);
            assert_eq!(number(&report, "fetched_blocks"), fetched, "{old:?} {new:?} {report}");
            let is = fs::read(&path).unwrap();
            assert!(is[..new.len() * BLOCK_BYTES] == blocks(new), "{old:?} {new:?} on {out}");
            let differing = old.iter().chain(std::iter::repeat(&0)).zip(new).filter(|(old, new)| old != new).count();
            let written = number(&report, "written_bytes");
            assert!(written <= (differing * BLOCK_BYTES) as u64, "only what differs is written: {report}");
            let again = update(&lab, &format!("{name}/test"), &out, &[]);
            assert_eq!((number(&again, "written_bytes"), number(&again, "fetched_blocks")), (0, 0), "{again}");
        }
    }
}

/// Two versions of a real file system in one repository, served by a server that takes its time.
fn two_versions(lab: &Lab) -> [Vec<u8>; 2] {
    two_images(lab, 400);
    lab.write("mirrors.toml", "[[mirror]]\nname = \"public\"\nwrite = \"./public\"\n");
    ["one.img", "two.img"].map(|image| {
        lab.publish(&[image, "--name", "os", "--unsigned"]);
        fs::read(lab.path(image)).unwrap()
    })
}

#[test]
fn an_update_of_a_file_system_downloads_what_a_seed_would_not_have() {
    let lab = Lab::new();
    let versions = two_versions(&lab);
    let seeded = lab.ok(&["restore", "public/os", "seeded.img", "--unsigned", "--seed", "one.img", "--json"]);
    let seeded: serde_json::Value = serde_json::from_str(&seeded).unwrap();
    fs::copy(lab.path("one.img"), lab.path("out.img")).unwrap();
    let report = update(&lab, "public/os", "out.img", &[]);
    println!("{report:#}");
    assert!(fs::read(lab.path("out.img")).unwrap() == versions[1]);
    assert_eq!(report["fetched_blocks"], seeded["fetched_blocks"], "{seeded:#}");
    assert!(number(&report, "moved_bytes") + number(&report, "kept_bytes") >= number(&seeded, "seed_bytes"));
    // Holes are holes.
    let allocated = |file: &str| std::os::unix::fs::MetadataExt::blocks(&fs::metadata(lab.path(file)).unwrap()) * 512;
    let (updated, fresh) = (allocated("out.img"), allocated("seeded.img"));
    assert!(updated <= fresh + (1 << 20), "{updated} {fresh}");
}

#[test]
fn what_is_killed_again_and_again_ends_right() {
    let lab = Lab::new();
    let versions = two_versions(&lab);
    let server = WebServer::delaying(&lab.path("public"), Duration::from_millis(3));
    let source = format!("{}/os", server.url());
    let bytes = versions[0].len();
    let Some(device) = LoopDevice::new(&lab.path("disk"), bytes as u64 + 4096) else { return };
    let mut random = Random(8);
    let (kills, mut killed, mut early) = (if full() { 200 } else { 15 }, 0, 0);
    let mut longest = Duration::from_millis(300);
    fs::copy(lab.path("one.img"), lab.path("file")).unwrap();
    fs::write(&device.0, &versions[0]).unwrap();
    while killed < kills {
        let out = if killed % 2 == 0 { "file" } else { &device.0 };
        let version = (1 + random.below(2)).to_string();
        let words = ["restore", &source, out, "--unsigned", "--in-place", "-q", "--version", &version];
        let mut child = lab.command(&words).spawn().unwrap();
        std::thread::sleep(longest.mul_f64(random.below(1000) as f64 / 1000.0));
        match child.try_wait().unwrap() {
            Some(status) => {
                assert!(status.success());
                early += 1;
                longest = longest.mul_f64(0.9);
                continue;
            }
            None => child.kill().unwrap(),
        }
        child.wait().unwrap();
        killed += 1;
        if killed % 5 == 0 {
            let started = Instant::now();
            lab.ok(&words);
            longest = longest.max(started.elapsed());
            let is = fs::read(lab.path(out)).unwrap();
            assert!(is[..bytes] == versions[version.parse::<usize>().unwrap() - 1], "after {killed} kills, {out}");
        }
    }
    println!("killed {killed} times within {longest:.2?}, {early} runs had ended before");
    for out in ["file", &device.0] {
        update(&lab, &source, out, &[]);
        assert!(fs::read(lab.path(out)).unwrap()[..bytes] == versions[1], "{out}");
    }
}

#[test]
fn a_disk_with_a_mounted_partition_is_refused() {
    let lab = Lab::new();
    make_tree(&lab.path("tree"), 30, 2);
    make_ext4(&lab.path("tree"), &lab.path("part.img"), "16M");
    fs::File::create(lab.path("disk")).unwrap().set_len(32 << 20).unwrap();
    let table = "label: gpt\nstart=2048, size=32768, name=root\n";
    if crate::support::lab::tool(&lab, "sfdisk", &["--quiet", "disk"], table).is_none() {
        return;
    }
    let part = fs::read(lab.path("part.img")).unwrap();
    let file = fs::File::options().write(true).open(lab.path("disk")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &part, 1 << 20).unwrap();
    Publish::default().write(&lab.path("a"), &fs::read(lab.path("disk")).unwrap());
    let Some(device) = LoopDevice::over(&lab.path("disk")) else { return };
    let partition = device.partition(1).display().to_string();
    if !Path::new(&partition).exists() {
        return skipped("loop devices have no partitions here");
    }
    let point = lab.path("point");
    fs::create_dir(&point).unwrap();
    if !Command::new("mount").args(["-o", "ro", &partition, point.to_str().unwrap()]).status().unwrap().success() {
        return skipped("ext4 cannot be mounted here");
    }
    for out in [&device.0, &partition] {
        for more in [&["--in-place"][..], &["--force"], &["--in-place", "--force"]] {
            let said = lab.fails(1, &[&["restore", "a/test", out, "--unsigned"][..], more].concat());
            assert!(said.contains("is in use"), "{said}");
        }
    }
    assert!(Command::new("umount").arg(&point).status().unwrap().success());
    assert_eq!(number(&update(&lab, "a/test", &device.0, &[]), "fetched_blocks"), 0, "it was not written");
}

#[test]
fn another_disk_than_was_meant_is_refused() {
    let lab = Lab::new();
    let bytes = blocks(&[1, 2, 3, 4, 5, 6, 7, 8]);
    Publish { block_bytes: BLOCK_BYTES, ..Publish::default() }.write(&lab.path("a"), &bytes);
    let words = ["restore", "a/test", "out.img", "--unsigned", "--in-place"];
    assert!(lab.fails(1, &words).contains("there is no such file to update"));
    let mine = blocks(&[21, 22, 23]);
    fs::write(lab.path("out.img"), &mine).unwrap();
    assert!(lab.fails(1, &words).contains("nothing of test is on it"));
    assert!(fs::read(lab.path("out.img")).unwrap() == mine);
    lab.ok(&[&words[..], &["--force"]].concat());
    assert!(fs::read(lab.path("out.img")).unwrap() == bytes);
    if let Some(device) = LoopDevice::over(&lab.path("out.img")) {
        let said = lab.fails(1, &words);
        assert!(said.contains(&format!("in use, as {}", device.0)), "{said}");
    }
    // An empty one is no mistake.
    fs::write(lab.path("out.img"), vec![0; 4 << 20]).unwrap();
    lab.ok(&words);
    assert!(fs::read(lab.path("out.img")).unwrap() == bytes);
}
