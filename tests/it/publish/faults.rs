//! Publishing while one mirror has a fault: full, read-only, slow, disconnected or refusing. The other mirror gets its
//! version, the faulty one stays consistent, the report gives the reason, and a run without the fault sends what is
//! missing.

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use hfl::format::head::Trust;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::support::kinds::{Kind, blocks, check_store, use_kinds};
use crate::support::lab::{Lab, Random, code, full, skipped, stderr, two_images};
use crate::support::proxy::Proxy;
use crate::support::servers::{proftpd, s3, webdav};

/// Small blocks, so that there are many.
const SPLIT: &str = "fixed:32K";
const SECRETS: [&str; 4] = [webdav::PASSWORD, proftpd::PASSWORD, s3::SECRET_KEY, "not-the-password"];

/// Version 1 on a good directory mirror and on a mirror that is going to have a fault.
struct Trouble {
    lab: Lab,
    runtime: Runtime,
    kinds: [Kind; 2],
    trust: Trust,
    /// The image to publish next.
    image: &'static str,
    /// The versions that exist after that publish, newest first.
    all: Vec<u32>,
}

impl Trouble {
    fn start(mut lab: Lab, bad: Kind, files: usize) -> Self {
        let kinds = [Kind::directory(&lab, "good"), bad];
        use_kinds(&mut lab, &kinds);
        two_images(&lab, files);
        lab.publish(&["one.img", "--name", "os", "--split", SPLIT]);
        let trust = lab.trust("os");
        Self { lab, runtime: Runtime::new().unwrap(), kinds, trust, image: "two.img", all: vec![2, 1] }
    }

    fn versions(&self, mirror: usize) -> Vec<u32> {
        check_store(&self.runtime, &*self.kinds[mirror].store, "os", &self.trust)
    }

    /// Makes version 3 the next one to publish.
    fn go_on(&mut self) {
        (self.image, self.all) = ("one.img", vec![3, 2, 1]);
    }

    /// Publishes the next version. Returns the exit code, the report and the time it took.
    fn publish(&self, more: &[&str]) -> (i32, Value, Duration) {
        let arguments = ["publish", self.image, "--name", "os", "--split", SPLIT, "--to", "mirrors.toml", "--json"];
        let started = Instant::now();
        let output = self.lab.run(&[&arguments, more].concat());
        let took = started.elapsed();
        let all = format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
        assert!(!SECRETS.iter().any(|secret| all.contains(secret)), "no secret is told: {all}");
        let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {all}"));
        (code(&output), report, took)
    }

    /// Publishes and expects that the faulty mirror is left behind, with a reason that contains `said`.
    fn left_behind(&self, more: &[&str], said: &str) -> Value {
        let (code, report, took) = self.publish(more);
        let (good, bad) = (&report["mirrors"][0], &report["mirrors"][1]);
        assert_eq!(code, 6, "{report}");
        assert!(good["current"] == true && bad["current"] == false, "{report}");
        let why = bad["why"].as_str().unwrap();
        println!("{} left behind after {took:.1?}: {why}", self.kinds[1].name);
        assert!(why.contains(said) && !why.contains('\n') && why.len() < 300, "{why}");
        self.keeps_its_promises();
        report
    }

    fn keeps_its_promises(&self) {
        assert_eq!(self.versions(0), self.all, "the good mirror is whole");
        let versions = self.versions(1);
        assert!(versions == self.all[1..] || versions == self.all, "the other keeps its promises: {versions:?}");
    }

    /// Publishes and expects success on both mirrors.
    fn comes_through(&self) -> Duration {
        let (code, report, took) = self.publish(&[]);
        assert_eq!(code, 0, "{report}");
        let bad = &report["mirrors"][1];
        let arrived = bad["objects"].as_u64().unwrap() + bad["found"].as_u64().unwrap();
        assert_eq!(report["new"]["blocks"], arrived, "each new block once: {bad}");
        self.ends_whole();
        took
    }

    /// Publishes once more without the fault: both mirrors are complete, and only what was missing is sent.
    fn is_completed(&self) {
        let before = blocks(&self.runtime, &self.kinds[1].store);
        let (code, report, took) = self.publish(&[]);
        assert_eq!(code, 0, "{report}");
        let missing = blocks(&self.runtime, &self.kinds[1].store).difference(&before).count();
        assert_eq!(report["mirrors"][1]["objects"], missing, "{report}");
        assert_eq!(report["mirrors"][0]["objects"], 0, "{report}");
        println!("{} caught up in {took:.1?} with {missing} blocks", self.kinds[1].name);
        self.ends_whole();
    }

    fn ends_whole(&self) {
        assert_eq!((self.versions(0), self.versions(1)), (self.all.clone(), self.all.clone()));
        let lock = self.runtime.block_on(self.kinds[1].store.get(&"publish.lock".parse().unwrap(), 4096));
        assert!(lock.is_err(), "no lock stays");
    }
}

/// A server behind a proxy. mirrors.toml names the proxy instead, also in the public URL if that has the same port.
fn behind_proxy(kind: Option<Kind>) -> Option<(Kind, Proxy)> {
    let Some(mut kind) = kind else {
        skipped("a server is not installed");
        return None;
    };
    let mut proxy = None;
    kind.behind(|server| proxy.insert(Proxy::start(server)).address());
    Some((kind, proxy?))
}

/// A small file system, unmounted on drop. `None` if mounting is not permitted.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let disk = Self(directory);
        disk.run("mount", &["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).then_some(disk).or_else(|| {
            skipped("mounting a tmpfs needs root");
            None
        })
    }

    fn run(&self, program: &str, arguments: &[&str]) -> bool {
        Command::new(program).args(arguments).arg(self.0.path()).output().is_ok_and(|done| done.status.success())
    }

    fn fill(&self) {
        let mut filler = fs::File::create(self.0.path().join("filler")).unwrap();
        for chunk in [64 << 10, 1] {
            while filler.write_all(&vec![b'x'; chunk]).is_ok() {}
        }
    }

    fn empty(&self) {
        fs::remove_file(self.0.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.run("umount", &["-l"]);
    }
}

/// A directory mirror `bad` on a small disk.
fn directory_on(disk: &SmallDisk) -> Trouble {
    let lab = Lab::new();
    std::os::unix::fs::symlink(disk.0.path(), lab.path("bad")).unwrap();
    let kind = Kind::directory(&lab, "bad");
    Trouble::start(lab, kind, 60)
}

#[test]
fn a_full_directory() {
    let Some(disk) = SmallDisk::mount() else { return };
    let trouble = directory_on(&disk);
    disk.fill();
    trouble.left_behind(&[], "no space left on device");
    disk.empty();
    trouble.is_completed();
}

#[test]
fn a_full_web_server() {
    let Some(disk) = SmallDisk::mount() else { return };
    let Some(kind) = Kind::apache_at(Some(disk.0.path().join("root"))) else { return skipped("needs apache2-bin") };
    let trouble = Trouble::start(Lab::new(), kind, 60);
    disk.fill();
    trouble.left_behind(&[], "its disk or quota is full");
    disk.empty();
    trouble.is_completed();
}

#[test]
fn a_read_only_directory() {
    let Some(disk) = SmallDisk::mount() else { return };
    let trouble = directory_on(&disk);
    assert!(disk.run("mount", &["-o", "remount,ro"]));
    trouble.left_behind(&[], "read-only file");
    assert!(disk.run("mount", &["-o", "remount,rw"]));
    trouble.is_completed();
}

/// Publishes without write permission below `root`, then again with it.
fn may_not_write(trouble: &Trouble, root: &str, said: &str) {
    let chmod = |mode: &str| assert!(Command::new("chmod").args(["-R", mode, root]).status().unwrap().success());
    chmod("a-w");
    trouble.left_behind(&[], said);
    chmod("u+w");
    trouble.is_completed();
}

#[test]
fn an_ftp_server_that_may_not_write() {
    let Some(kind) = Kind::ftps() else { return skipped("needs proftpd") };
    let root = kind.store.location().to_owned();
    may_not_write(&Trouble::start(Lab::new(), kind, 60), &root, "denied");
}

/// Apache responds 500, which may be a temporary error, so requests are retried for a minute.
#[test]
fn a_web_server_that_may_not_write() {
    if !full() {
        return skipped("it takes a minute; set HFL_FULL for it");
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root").display().to_string();
    Command::new("chmod").arg("755").arg(directory.path()).status().unwrap();
    let Some(kind) = Kind::apache_at(Some(root.clone().into())) else { return skipped("needs apache2-bin") };
    may_not_write(&Trouble::start(Lab::new(), kind, 60), &root, "it may not be allowed to write there");
}

#[test]
fn a_slow_mirror_is_not_waited_for() {
    let Some((kind, proxy)) = behind_proxy(Kind::nginx()) else { return };
    let trouble = Trouble::start(Lab::new(), kind, 200);
    proxy.faults().rate(Some(64 << 10), Some(64 << 10));
    let report = trouble.left_behind(&["--patience", "3s"], "not ready 3s after the others");
    let needed = report["new"]["zlib_bytes"].as_f64().unwrap() / f64::from(64 << 10);
    println!(
        "at 64 KB/s it would have taken {needed:.0} s; all ended after {:.1} s",
        report["seconds"].as_f64().unwrap()
    );
    proxy.faults().rate(None, None);
    trouble.is_completed();
}

/// Connections are reset after `carried` bytes downstream: the publish succeeds. With almost no bytes, it cannot.
fn resets(kind: Option<Kind>, carried: std::ops::Range<u64>) {
    let Some((kind, proxy)) = behind_proxy(kind) else { return };
    let mut trouble = Trouble::start(Lab::new(), kind, 60);
    proxy.faults().reset_after(Some(carried.clone()));
    let before = proxy.faults().connections();
    let took = trouble.comes_through();
    let connections = proxy.faults().connections() - before;
    println!("{}: reset after {carried:?} bytes, {connections} connections, {took:.1?}", trouble.kinds[1].name);
    proxy.faults().reset_after(Some(1..2));
    trouble.go_on();
    trouble.left_behind(&[], "");
    proxy.faults().reset_after(None);
    trouble.is_completed();
}

#[test]
fn connections_to_s3_that_are_reset() {
    resets(Kind::seaweed(&Runtime::new().unwrap()), 40_000..300_000);
}

#[test]
fn connections_to_sftp_that_are_reset() {
    resets(Kind::sftp(), 45_000..200_000);
}

#[test]
fn connections_to_ftp_that_are_reset() {
    resets(Kind::ftps(), 6_000..12_000);
}

/// Responds 503 for some seconds in the middle of the work. Returns whether the work got that far.
fn refuse_in_the_middle(proxy: &Proxy, seconds: f64) -> bool {
    let faults = proxy.faults();
    let (sent, started) = (faults.bytes().0, Instant::now());
    while faults.bytes().0 < sent + 60_000 {
        if started.elapsed() > Duration::from_secs(30) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    faults.unavailable(Some(1));
    std::thread::sleep(Duration::from_secs_f64(seconds));
    faults.unavailable(None);
    true
}

/// 503 for some seconds in the middle of a publish, then from the start and permanently.
fn unavailable(kind: Option<Kind>) {
    let Some((kind, proxy)) = behind_proxy(kind) else { return };
    let mut trouble = Trouble::start(Lab::new(), kind, 60);
    let took = std::thread::scope(|scope| {
        let fault = scope.spawn(|| refuse_in_the_middle(&proxy, 2.5));
        let took = trouble.comes_through();
        assert!(fault.join().unwrap(), "it was in the middle of the work");
        took
    });
    println!("{}: 2.5 s of 503 in the middle, done in {took:.1?}", trouble.kinds[1].name);
    proxy.faults().unavailable(Some(1));
    trouble.go_on();
    trouble.left_behind(&[], "503");
    proxy.faults().unavailable(None);
    trouble.is_completed();
}

/// A store that responded before is retried for about a minute, and no longer.
#[test]
fn a_mirror_that_breaks_down_in_the_middle() {
    if !full() {
        return skipped("it takes four minutes; set HFL_FULL for it");
    }
    for kind in [Kind::nginx(), Kind::seaweed(&Runtime::new().unwrap())] {
        let Some((kind, proxy)) = behind_proxy(kind) else { continue };
        let trouble = Trouble::start(Lab::new(), kind, 60);
        std::thread::scope(|scope| {
            let fault = scope.spawn(|| refuse_in_the_middle(&proxy, 120.0));
            let (started, _) = (Instant::now(), trouble.left_behind(&[], "503"));
            assert!(started.elapsed() < Duration::from_secs(120), "about a minute, and the lock given up");
            assert!(fault.join().unwrap());
        });
        trouble.is_completed();
    }
}

#[test]
fn a_web_server_that_answers_503() {
    unavailable(Kind::nginx());
}

#[test]
fn an_s3_store_that_answers_503() {
    unavailable(Kind::seaweed(&Runtime::new().unwrap()));
}

#[test]
fn a_mirror_that_is_down() {
    let Some((kind, proxy)) = behind_proxy(Kind::nginx()) else { return };
    let trouble = Trouble::start(Lab::new(), kind, 60);
    proxy.faults().refuse(true);
    let report = trouble.left_behind(&[], "connection refused");
    assert!(report["seconds"].as_f64() < Some(15.0), "nobody waits for a mirror that never answered: {report}");
    proxy.faults().refuse(false);
    trouble.is_completed();
}

#[test]
fn a_wrong_password() {
    let cases = [
        (Kind::nginx(), "HFL_TEST_DAV_PASSWORD", webdav::PASSWORD, "it does not take this user with this password"),
        (Kind::ftps(), "HFL_TEST_FTP_PASSWORD", proftpd::PASSWORD, "530"),
        (Kind::seaweed(&Runtime::new().unwrap()), "HFL_TEST_SECRET_KEY", s3::SECRET_KEY, "403"),
    ];
    for (kind, variable, right, said) in cases {
        let Some(kind) = kind else {
            skipped("a server is not installed");
            continue;
        };
        let mut trouble = Trouble::start(Lab::new(), kind, 20);
        trouble.lab.set(variable, "not-the-password");
        trouble.left_behind(&[], said);
        trouble.lab.set(variable, right);
        trouble.is_completed();
    }
}

#[test]
fn a_host_whose_key_is_not_known() {
    let rsync = if full() { vec![Kind::rsync()] } else { Vec::new() };
    for kind in [Kind::sftp()].into_iter().chain(rsync) {
        let Some(kind) = kind else {
            skipped("openssh-server or rsync is not installed");
            continue;
        };
        let trouble = Trouble::start(Lab::new(), kind, 20);
        let text = fs::read_to_string(trouble.lab.path("mirrors.toml")).unwrap();
        let known = text.lines().find(|line| line.starts_with("known-hosts")).unwrap();
        let nobody = trouble.lab.write("nobody", "");
        trouble.lab.write("mirrors.toml", text.replace(known, &format!("known-hosts = \"{}\"", nobody.display())));
        trouble.left_behind(&[], "known");
        trouble.lab.write("mirrors.toml", &text);
        trouble.is_completed();
    }
}

#[test]
fn no_mirror_is_left() {
    let (Some((nginx, one)), Some((sftp, two))) = (behind_proxy(Kind::nginx()), behind_proxy(Kind::sftp())) else {
        return;
    };
    let mut lab = Lab::new();
    use_kinds(&mut lab, &[nginx, sftp]);
    lab.write("one.img", Random(1).bytes(300_000));
    one.faults().refuse(true);
    two.faults().refuse(true);
    let publish = ["publish", "one.img", "--name", "os", "--to", "mirrors.toml"];
    each_is_named(&lab.fails(4, &publish), &["nginx", "sftp"]);
    fails_on_files(&publish);
}

/// Mirrors that are files instead of directories: an error without any network.
fn fails_on_files(publish: &[&str]) {
    let lab = Lab::with_mirrors(&["a", "b"]);
    lab.write("one.img", Random(1).bytes(300_000));
    for mirror in ["a", "b"] {
        lab.write(mirror, "a file");
    }
    each_is_named(&lab.fails(1, publish), &["a", "b"]);
}

fn each_is_named(said: &str, mirrors: &[&str]) {
    println!("{}", said.trim());
    for mirror in mirrors {
        assert!(said.contains(&format!("mirror {mirror}: ")), "{said}");
    }
    assert!(!SECRETS.iter().any(|secret| said.contains(secret)));
}
