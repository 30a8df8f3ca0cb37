//! The file system in an image in one step, as mount(8) asks for it; and what killed clients leave.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::fixture::Publish;
use crate::support::lab::{code, make_ext4, make_tree, skipped, stderr};
use crate::support::mounting::{Mounted, cannot_mount, client, is_mounted};
use crate::support::servers::program;
use crate::support::through::in_place_of;

/// Images in a repository, and a place to mount them.
struct Helped {
    home: TempDir,
}

impl Helped {
    /// `None` if this machine cannot mount what is in images.
    fn new() -> Option<Self> {
        if cannot_mount() {
            return None;
        }
        if !Path::new("/dev/loop-control").exists() {
            skipped("no /dev/loop-control");
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        make_tree(&home.path().join("tree"), 20, 1);
        fs::write(home.path().join("tree/told"), "by the image\n").unwrap();
        make_ext4(&home.path().join("tree"), &home.path().join("image"), "16M");
        Publish { image: "plain", ..Publish::default() }
            .write(&home.path().join("a"), &fs::read(home.path().join("image")).unwrap());
        symlink(env!("CARGO_BIN_EXE_hfl-mount"), home.path().join("mount.hfl")).unwrap();
        fs::create_dir(home.path().join("point")).unwrap();
        Some(Self { home })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn source(&self, image: &str) -> String {
        self.path("a").join(image).display().to_string()
    }

    /// Calls the helper as mount(8) does.
    fn mount(&self, source: &str, options: &str) -> Output {
        let mut helper = Command::new(self.path("mount.hfl"));
        in_place_of(&mut helper, &client(self.home.path()));
        helper.arg(source).arg(self.path("point")).args(["-o", options]).stdin(Stdio::null()).output().unwrap()
    }

    /// Its directories below /run: of this image, whoever mounted it.
    fn left(&self, image: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir("/run/hfl-mount").into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| path.to_string_lossy().contains(&format!("/{image}-")))
            .collect()
    }

    fn process(&self, image: &str) -> String {
        let left = self.left(image);
        left[0].to_str().unwrap().rsplit_once('-').unwrap().1.to_owned()
    }

    fn umount(&self) {
        assert!(Command::new("umount").arg(self.path("point")).status().unwrap().success());
    }
}

impl Drop for Helped {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path("point")).stderr(Stdio::null()).status();
    }
}

fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn told(helped: &Helped) -> String {
    fs::read_to_string(helped.path("point/told")).unwrap_or_default()
}

/// All are made by one call, and undone by one.
#[test]
fn a_file_system_is_mounted_in_one_step_and_umount_undoes_it() {
    let Some(helped) = Helped::new() else { return };
    let source = helped.source("plain");
    let output = helped.mount(&source, "rw,unsigned,nosuid,_netdev,x-systemd.automount,noload,memory=8M");
    assert!(code(&output) == 0 && stderr(&output).contains("version"), "{}", stderr(&output));
    assert_eq!(told(&helped), "by the image\n");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let point = helped.path("point").display().to_string();
    let line = mounts.lines().find(|line| line.contains(&point)).unwrap();
    assert!(line.contains(" ext4 ro,nosuid") && !line.contains("_netdev"), "{line}");
    let status = client(helped.home.path()).args(["status", &point]).output().unwrap();
    assert!(String::from_utf8_lossy(&status.stdout).starts_with("plain version"), "{}", stderr(&status));
    // As `mount -a` does.
    let again = helped.mount(&source, "unsigned");
    assert!(code(&again) == 0 && stderr(&again).contains("already"), "{}", stderr(&again));
    let mounted = fs::read_to_string("/proc/self/mounts").unwrap().lines().filter(|line| line.contains(&point)).count();
    assert_eq!(mounted, 1);
    helped.umount();
    soon("all is undone", || helped.left("plain").is_empty());
}

/// SIGTERM unmounts both; SIGKILL leaves errors, and what it leaves is cleared by the next mount.
#[test]
fn what_a_killed_client_leaves_is_cleared() {
    let Some(helped) = Helped::new() else { return };
    let source = helped.source("plain");
    let kill = |signal: &str| {
        assert!(Command::new("kill").args([signal, &helped.process("plain")]).status().unwrap().success())
    };
    assert_eq!(code(&helped.mount(&source, "unsigned")), 0);
    kill("-TERM");
    soon("both are unmounted", || helped.left("plain").is_empty() && !is_mounted(&helped.path("point")));
    assert_eq!(code(&helped.mount(&source, "unsigned")), 0);
    let dead = helped.left("plain");
    kill("-KILL");
    soon("reads fail", || {
        Command::new("dd")
            .arg("iflag=direct")
            .arg(format!("if={}", helped.path("point/told").display()))
            .arg("of=/dev/null")
            .output()
            .is_ok_and(|o| !o.status.success())
    });
    helped.umount();
    assert_eq!(code(&helped.mount(&source, "unsigned")), 0);
    assert_eq!(told(&helped), "by the image\n");
    assert!(!is_mounted(&dead[0]));
    helped.umount();
}

#[test]
fn a_killed_mount_of_a_file_is_mounted_again() {
    let Some(helped) = Helped::new() else { return };
    let sources = [helped.source("plain")];
    let mut mounted = Mounted::named(helped.home.path(), &["--unsigned"], &sources, "plain");
    let point = mounted.point().to_owned();
    mounted.signal(rustix::process::Signal::KILL);
    mounted.status();
    let output = client(helped.home.path()).args(["--unsigned", &sources[0]]).arg(&point).output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(fs::read(point.join("plain")).unwrap().len(), 16 << 20);
    assert!(Command::new("umount").arg(&point).status().unwrap().success());
}

/// A disk with partitions: the error names them, and each can be mounted.
#[test]
fn partitions_are_named_and_mounted() {
    let Some(helped) = Helped::new() else { return };
    let Some(sfdisk) = program("sfdisk") else { return skipped("no sfdisk") };
    let image = fs::read(helped.path("image")).unwrap();
    for (label, number, start) in [("gpt", 2_u32, 6_u64 << 20), ("dos", 5, 7 << 20)] {
        let disk = helped.path(label);
        fs::File::create(&disk).unwrap().set_len(32 << 20).unwrap();
        let table = match label {
            "gpt" => "label: gpt\nstart=2048,size=10240\nstart=12288,size=32768\n",
            _ => {
                "label: dos\nstart=2048,size=2048,type=83\nstart=12288,size=40960,type=5\nstart=14336,size=32768,type=83\n"
            }
        };
        let mut made = Command::new(&sfdisk).arg("-q").arg(&disk).stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut made.stdin.take().unwrap(), table.as_bytes()).unwrap();
        assert!(made.wait().unwrap().success());
        let mut bytes = fs::read(&disk).unwrap();
        bytes[start as usize..][..image.len()].copy_from_slice(&image);
        Publish { image: label, ..Publish::default() }.write(&helped.path("a"), &bytes);
        let source = helped.source(label);
        let none = helped.mount(&source, "unsigned");
        let listed = format!(", {number} (16 MiB)");
        assert!(code(&none) == 32 && stderr(&none).contains(&listed), "{}", stderr(&none));
        let missing = helped.mount(&source, "unsigned,partition=9");
        assert!(code(&missing) == 32 && stderr(&missing).contains("no partition 9"), "{}", stderr(&missing));
        soon("nothing is left", || helped.left(label).is_empty());
        let output = helped.mount(&source, &format!("unsigned,partition={number}"));
        assert_eq!((code(&output), &*told(&helped)), (0, "by the image\n"), "{}", stderr(&output));
        helped.umount();
    }
}

/// What mount(8) may say, and what it must not be told.
#[test]
fn the_helper_speaks_as_mount_expects() {
    let Some(helped) = Helped::new() else { return };
    let source = helped.source("plain");
    let file = helped.mount(&source, "unsigned,file");
    assert_eq!(code(&file), 0, "{}", stderr(&file));
    assert_eq!(fs::metadata(helped.path("point/plain")).unwrap().len(), 16 << 20);
    helped.umount();
    let missing = helped.mount(&helped.source("other"), "unsigned,timeout=1s");
    assert_eq!(code(&missing), 32, "{}", stderr(&missing));
    let wrong = helped.mount(&source, "unsigned,timeout=soon");
    assert!(code(&wrong) == 1 && stderr(&wrong).contains("-o timeout: "), "{}", stderr(&wrong));
    let call = |words: &[&str]| {
        let mut helper = Command::new(helped.path("mount.hfl"));
        in_place_of(&mut helper, &client(helped.home.path())).args(words).output().unwrap()
    };
    assert_eq!(code(&call(&[&source, "/mnt", "--bogus"])), 1);
    assert_eq!(code(&call(&[&source, "/mnt", "-o"])), 1);
    assert_eq!(
        code(&call(&[&source, "/mnt", "-f", "-o", "unsigned"])),
        0,
        "nothing is mounted, only the words are read"
    );
    assert!(!is_mounted(Path::new("/mnt")));
}
