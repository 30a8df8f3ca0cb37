//! Publishes a real ext4 image to directories and restores it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::process::Stdio;

use crate::support::lab::{Lab, Random, check_mirror, code, make_ext4, make_tree, skipped, stderr};

/// A lab with `one.img` and `two.img`: images of the same tree before and after a change.
fn two_images(mirrors: &[&str]) -> Lab {
    let lab = Lab::with_mirrors(mirrors);
    make_tree(&lab.path("tree"), 600, 1);
    make_ext4(&lab.path("tree"), &lab.path("one.img"), "64M");
    lab.write("tree/usr/lib/part03/file0003", Random(9).bytes(30_000));
    lab.write("tree/new-file", Random(10).bytes(5_000));
    make_ext4(&lab.path("tree"), &lab.path("two.img"), "64M");
    lab
}

#[test]
fn publishes_with_nothing_set_up_and_restores_every_byte() {
    let lab = two_images(&["public"]);
    let text = lab.ok(&["publish", "one.img", "--to", "mirrors.toml"]);
    let key = lab.path("home/.config/hfl/keys/one.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(text.contains("one version 1 is published") && text.contains("hfl-mount --key RW"), "{text}");
    assert_eq!(check_mirror(&lab.path("public"), "one", &lab.trust("one")), [1]);

    lab.ok(&["restore", "public/one", "back.img", "--quiet"]);
    assert!(fs::read(lab.path("back.img")).unwrap() == fs::read(lab.path("one.img")).unwrap());
    let sparse = fs::metadata(lab.path("back.img")).unwrap().blocks() * 512;
    assert!(sparse < 40 << 20, "the restored image is sparse: {sparse} bytes on disk");
    assert!(lab.fails(1, &["restore", "public/one", "back.img"]).contains("exists already"));
    assert!(!lab.path("public/.hfl-tmp").exists(), "nothing temporary is left");
}

#[test]
fn an_update_sends_only_what_is_new() {
    let lab = two_images(&["public"]);
    let first = lab.publish(&["one.img", "--name", "os", "--label", "first build"]);
    let again = lab.publish(&["one.img", "--name", "os"]);
    assert_eq!((again["outcome"].as_str(), again["version"].as_u64()), (Some("no-change"), Some(1)));
    assert_eq!(again["mirrors"][0]["objects"], 0);
    let second = lab.publish(&["two.img", "--name", "os"]);
    assert_eq!(second["version"], 2);
    let (all, new) = (first["new"]["zlib_bytes"].as_u64().unwrap(), second["new"]["zlib_bytes"].as_u64().unwrap());
    assert!(new * 2 < all, "{new} of {all} bytes are new");
    assert_eq!(second["mirrors"][0]["objects"], second["new"]["blocks"]);
    println!(
        "update: {new} of {all} compressed bytes, {} of {} blocks",
        second["new"]["blocks"], first["new"]["blocks"]
    );
    assert_eq!(check_mirror(&lab.path("public"), "os", &lab.trust("os")), [2, 1]);

    let log = lab.ok(&["log", "public/os"]);
    assert!(log.contains("first build"), "{log}");
    let json: serde_json::Value = serde_json::from_str(&lab.ok(&["log", "public/os", "--json"])).unwrap();
    assert_eq!(json["versions"][0]["version"], 2);

    let restored = lab.ok(&["restore", "public/os", "back.img", "--seed", "one.img", "--json"]);
    let restored: serde_json::Value = serde_json::from_str(&restored).unwrap();
    assert_eq!(restored["fetched_blocks"], second["new"]["blocks"], "only new blocks are downloaded");
    assert!(fs::read(lab.path("back.img")).unwrap() == fs::read(lab.path("two.img")).unwrap());
    lab.ok(&["restore", "public/os", "old.img", "--version", "1", "-q"]);
    assert!(fs::read(lab.path("old.img")).unwrap() == fs::read(lab.path("one.img")).unwrap());
}

#[test]
fn a_second_image_shares_blocks_and_a_forced_version_costs_nothing() {
    let lab = two_images(&["public"]);
    lab.publish(&["one.img", "--name", "os"]);
    let other = lab.publish(&["one.img", "--name", "os-copy"]);
    assert_eq!(other["new"]["blocks"], 0, "{other}");
    let forced = lab.publish(&["one.img", "--name", "os", "--force"]);
    assert_eq!((forced["version"].as_u64(), forced["new"]["blocks"].as_u64()), (Some(2), Some(0)));
    assert_eq!(fs::read_to_string(lab.path("public/images")).unwrap(), "os\nos-copy\n");
}

#[test]
fn several_mirrors_and_one_that_comes_later() {
    let lab = two_images(&["a", "b"]);
    lab.publish(&["one.img", "--name", "os"]);
    assert_eq!(lab.files("a"), lab.files("b"));
    let toml = fs::read_to_string(lab.path("mirrors.toml")).unwrap();
    lab.write("mirrors.toml", format!("{toml}[[mirror]]\nname = \"c\"\nwrite = \"./c\"\n"));
    let second = lab.publish(&["two.img", "--name", "os"]);
    for mirror in ["a", "b", "c"] {
        assert_eq!(check_mirror(&lab.path(mirror), "os", &lab.trust("os")), [2, 1], "mirror {mirror}");
    }
    assert_eq!(lab.files("a"), lab.files("c"), "the new mirror has everything");
    let new = second["new"]["blocks"].as_u64().unwrap();
    assert_eq!(second["mirrors"][0]["objects"].as_u64(), Some(new));
    assert!(second["mirrors"][2]["objects"].as_u64().unwrap() > new);
}

#[test]
fn a_mirror_that_fails_is_left_behind_and_caught_up() {
    let lab = two_images(&["a", "b"]);
    lab.publish(&["one.img", "--name", "os"]);
    fs::rename(lab.path("b/blocks"), lab.path("b-blocks")).unwrap();
    fs::write(lab.path("b/blocks"), "in the way").unwrap();
    let output = lab.run(&["publish", "two.img", "--name", "os", "--to", "mirrors.toml", "--json"]);
    assert_eq!(code(&output), 6, "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (report["mirrors"][0]["current"].as_bool(), report["mirrors"][1]["current"].as_bool()),
        (Some(true), Some(false))
    );
    assert_eq!(check_mirror(&lab.path("a"), "os", &lab.trust("os")), [2, 1]);
    fs::remove_file(lab.path("b/blocks")).unwrap();
    fs::rename(lab.path("b-blocks"), lab.path("b/blocks")).unwrap();
    let caught_up = lab.publish(&["two.img", "--name", "os"]);
    assert_eq!(caught_up["outcome"], "no-change");
    assert_eq!(caught_up["mirrors"][1]["objects"], report["new"]["blocks"], "only what was missing is sent");
    assert_eq!(check_mirror(&lab.path("b"), "os", &lab.trust("os")), [2, 1]);
}

#[test]
fn a_dry_run_writes_nothing_and_counts_everything() {
    let lab = two_images(&["public"]);
    let plan = lab.publish(&["one.img", "--name", "os", "--dry-run"]);
    assert!(!lab.path("public").exists() && !lab.path("home/.config").exists());
    let done = lab.publish(&["one.img", "--name", "os"]);
    assert_eq!(plan["mirrors"][0]["objects"], done["mirrors"][0]["objects"]);
    assert_eq!(plan["mirrors"][0]["bytes"], done["mirrors"][0]["bytes"]);
}

#[test]
fn standard_input_and_every_rule() {
    let lab = two_images(&["public"]);
    let piped = || {
        let mut arguments = vec!["publish", "-", "--name", "piped", "--to", "mirrors.toml", "--json"];
        arguments.extend(["--split", "pages"]);
        let mut child = lab.command(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let image = fs::read(lab.path("one.img")).unwrap();
        child.stdin.take().unwrap().write_all(&image).unwrap();
        serde_json::from_slice::<serde_json::Value>(&child.wait_with_output().unwrap().stdout).unwrap()
    };
    let first = piped();
    let file = lab.publish(&["one.img", "--name", "piped", "--split", "pages"]);
    assert_eq!(file["outcome"], "no-change", "a pipe is cut like a file: {first} {file}");
    for split in ["fixed", "fixed:64K", "bytes", "content"] {
        lab.publish(&["one.img", "--name", "rules", "--split", split]);
        lab.ok(&["restore", "public/rules", "back.img", "--force", "-q"]);
        assert!(fs::read(lab.path("back.img")).unwrap() == fs::read(lab.path("one.img")).unwrap(), "{split}");
    }
    assert!(lab.fails(2, &["publish", "-", "--to", "mirrors.toml"]).contains("--name NAME"));
}

#[test]
fn odd_sizes_and_sparse_images() {
    let lab = Lab::with_mirrors(&["public"]);
    for size in [1_usize, 511, 4096, 4097, 300_001] {
        let image = lab.write("odd.img", Random(size as u64).bytes(size));
        lab.publish(&["odd.img", "--split", "pages"]);
        lab.ok(&["restore", "public/odd", "back.img", "--force", "-q"]);
        assert_eq!(fs::read(lab.path("back.img")).unwrap(), fs::read(image).unwrap(), "{size} bytes");
    }
    let sparse = fs::File::create(lab.path("sparse.img")).unwrap();
    sparse.set_len(10 << 30).unwrap();
    let started = std::time::Instant::now();
    let report = lab.publish(&["sparse.img"]);
    println!("10 GiB of zeros: {:.2} s", started.elapsed().as_secs_f64());
    assert_eq!((report["new"]["blocks"].as_u64(), report["hole_bytes"].as_u64()), (Some(0), Some(10 << 30)));
    sparse.write_all_at(b"data", (5 << 30) + 4090).unwrap();
    let report = lab.publish(&["sparse.img"]);
    assert_eq!(report["new"]["blocks"], 1);
    lab.ok(&["restore", "public/sparse", "back.img", "--force", "-q"]);
    let mut found = [0; 4];
    fs::File::open(lab.path("back.img")).unwrap().read_exact_at(&mut found, (5 << 30) + 4090).unwrap();
    assert_eq!(&found, b"data");
}

#[test]
fn a_block_device_is_an_image_and_takes_one_back() {
    let lab = two_images(&["public"]);
    let attach = |file: &str| {
        let mut losetup = std::process::Command::new("losetup");
        losetup.args(["--find", "--show"]).arg(lab.path(file));
        let output = losetup.output().ok().filter(|o| o.status.success())?;
        Some(LoopDevice(String::from_utf8(output.stdout).unwrap().trim().to_owned()))
    };
    lab.write("target.img", Random(6).bytes(64 << 20));
    let (Some(from), Some(to)) = (attach("one.img"), attach("target.img")) else {
        return skipped("no loop device can be set up here");
    };
    lab.publish(&[&from.0, "--name", "device"]);
    let file = lab.publish(&["one.img", "--name", "device"]);
    assert_eq!(file["outcome"], "no-change", "a device is cut like a file");
    lab.ok(&["restore", "public/device", &to.0, "-q", "--force"]);
    drop(to);
    assert!(fs::read(lab.path("target.img")).unwrap() == fs::read(lab.path("one.img")).unwrap());
}

/// A loop device, detached on drop.
struct LoopDevice(String);

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = std::process::Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

#[test]
fn the_stock_minisign_accepts_an_index() {
    let lab = two_images(&["public"]);
    lab.publish(&["one.img", "--name", "os"]);
    let index = lab.files("public").into_iter().find(|f| f.ends_with(".idx")).unwrap();
    let mut minisign = std::process::Command::new("minisign");
    minisign.arg("-Vm").arg(lab.path("public").join(index)).arg("-p").arg(lab.path("home/.config/hfl/keys/os.pub"));
    match minisign.output() {
        Err(e) => skipped(&format!("minisign cannot be run: {e}")),
        Ok(output) => assert!(output.status.success(), "{}", stderr(&output)),
    }
}

#[test]
fn a_key_from_the_environment_and_none_at_all() {
    let lab = two_images(&["public"]);
    lab.publish(&["one.img", "--name", "os"]);
    let key = fs::read_to_string(lab.path("home/.config/hfl/keys/os.key")).unwrap();
    fs::rename(lab.path("home"), lab.path("elsewhere")).unwrap();
    let refused = lab.fails(3, &["publish", "two.img", "--name", "os", "--to", "mirrors.toml"]);
    assert!(refused.contains("another key") && refused.contains("HFL_KEY"), "{refused}");
    let refused = lab.fails(3, &["publish", "two.img", "--name", "os", "--to", "mirrors.toml", "--unsigned"]);
    assert!(refused.contains("cannot go on unsigned"), "{refused}");
    let mut command = lab.command(&["publish", "two.img", "--name", "os", "--to", "mirrors.toml"]);
    let output = command.env("HFL_KEY", key.lines().nth(1).unwrap()).output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let everything = format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
    assert!(!everything.contains(key.lines().nth(1).unwrap()), "the secret is not printed");

    lab.ok(&["publish", "one.img", "--name", "open", "--to", "mirrors.toml", "--unsigned", "-q"]);
    assert!(lab.fails(2, &["log", "public/open"]).contains("no key is known"));
    lab.ok(&["log", "public/open", "--unsigned"]);
}

/// A run that exits with code 6 reports the reason and what to do, even with `-q`.
#[test]
fn a_mirror_left_behind_is_told_even_when_quiet() {
    let lab = Lab::with_mirrors(&["good", "bad"]);
    lab.write("os.img", Random(1).bytes(100_000));
    lab.write("bad", "a file where a directory should be");
    for arguments in [&["publish", "os.img"][..], &["sync"]] {
        let output = lab.run(&[arguments, &["--to", "mirrors.toml", "-q"]].concat());
        assert_eq!(code(&output), 6, "{}", stderr(&output));
        assert!(stderr(&output).contains("warning: mirror bad was left behind: "), "{}", stderr(&output));
    }
}
