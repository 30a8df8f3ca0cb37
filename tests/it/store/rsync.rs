//! The rsync driver on a real sshd with the real rsync.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hfl::format::layout::RepoPath;
use hfl::store::rsync::{Rsync, RsyncConfig};
use hfl::store::{Fetch, Put, Store, StoreErrorKind};

use crate::support::conformance;
use crate::support::lab::{Lab, Random, code, skipped, stderr};
use crate::support::servers::sshd::{Sshd, make_key};
use crate::support::servers::{free_port, program};

/// An sshd that the tests can manipulate.
struct Host(Sshd);

impl Host {
    /// `None` if a program is not installed.
    fn start() -> Option<Self> {
        let rsync = program("rsync").and(program("ssh"));
        let Some(sshd) = rsync.and_then(|_| Sshd::start()) else {
            skipped("rsync, ssh, ssh-keygen or sshd is not installed");
            return None;
        };
        make_key(&sshd.path("other"), "ed25519", "");
        // A path that must be quoted.
        fs::copy(&sshd.known_hosts, sshd.path("known hosts")).expect("a file");
        Some(Self(sshd))
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path(file)
    }

    /// Restricts the user's key with these options of authorized_keys.
    fn allow(&self, options: &str) {
        let public = fs::read_to_string(self.0.identity.with_extension("pub")).expect("a public key");
        fs::write(self.path("authorized_keys"), format!("{options}{public}")).expect("a file");
    }

    /// The processes of the server's connections.
    fn connections(&self) -> Vec<u32> {
        let config = self.path("sshd_config").display().to_string();
        let processes = fs::read_dir("/proc").expect("Linux").flatten();
        let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let line = |pid: u32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        // sshd's process title has its state around its own arguments.
        let server = |pid: &u32| String::from_utf8_lossy(&line(*pid)).contains(&config);
        pids.find(server).map(descendants).expect("it runs")
    }

    /// Ends every connection, as a network failure does. The server stays.
    fn cut(&self) {
        for pid in self.connections() {
            if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }

    fn config(&self, path: &str) -> RsyncConfig {
        RsyncConfig {
            host: self.0.host.into(),
            port: Some(self.0.port),
            user: Some(self.0.user.clone()),
            path: path.into(),
            identity: Some(self.0.identity.clone()),
            known_hosts: Some(self.path("known hosts")),
        }
    }

    fn store(&self) -> Rsync {
        Rsync::open(self.config(&self.0.root.display().to_string())).expect("a store")
    }
}

/// All descendants of this process.
fn descendants(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    children.flat_map(|child| std::iter::once(child).chain(descendants(child))).collect()
}

fn path(text: &str) -> RepoPath {
    text.parse().expect("a path")
}

fn body(seed: u64, bytes: usize) -> Bytes {
    Random(seed).bytes(bytes).into()
}

/// Puts all objects, as many concurrently as the store's `jobs()`. Returns the errors.
async fn put_all(store: &Arc<Rsync>, below: &str, objects: usize, bytes: usize) -> Vec<StoreErrorKind> {
    let room = Arc::new(tokio::sync::Semaphore::new(store.jobs()));
    let mut running = tokio::task::JoinSet::new();
    for i in 0..objects {
        let (store, room, below) = (Arc::clone(store), Arc::clone(&room), below.to_owned());
        running.spawn(async move {
            let _room = room.acquire().await;
            store.put_new(&path(&format!("{below}/{:02x}/{i}", i % 256)), body(i as u64, bytes)).await
        });
    }
    running.join_all().await.into_iter().filter_map(|put| put.err().map(|e| e.kind())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rsync_conforms() {
    let Some(host) = Host::start() else { return };
    conformance::all(Arc::new(host.store())).await;
    let mode = |file: &str| rustix::fs::stat(host.path(file)).expect("it is there").st_mode & 0o777;
    assert_eq!((mode("root/os.head"), mode("root/blocks/1f/1f3a")), (0o644, 0o644), "a web server can read them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deep_base_is_made_and_reading_makes_none() {
    let Some(host) = Host::start() else { return };
    let base = host.path("root/not/there/yet");
    let store = Rsync::open(host.config(&base.display().to_string())).expect("a store");
    assert_eq!(store.list("").await.expect("nothing is there"), []);
    assert_eq!(store.get(&path("images"), 100).await.expect_err("nothing is there").kind(), StoreErrorKind::NotFound);
    assert_eq!(store.size(&path("images")).await.expect("nothing is there"), None);
    store.delete(&path("blocks/1f/1f3a")).await.expect("nothing is there");
    assert!(!host.path("root/not").exists());
    assert_eq!(store.put_new(&path("a/b"), body(1, 10)).await.expect("it is made"), Put::Created);
    assert_eq!(fs::read(base.join("a/b")).expect("there"), body(1, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_known_is_not_asked_twice() {
    let Some(host) = Host::start() else { return };
    let root = host.path("root").display().to_string();
    fs::write(host.path("empty"), "").expect("a file");
    let unknown = RsyncConfig { known_hosts: Some(host.path("empty")), ..host.config(&root) };
    let error = Rsync::open(unknown).expect("a store").size(&path("images")).await.expect_err("not known");
    assert_eq!(error.kind(), StoreErrorKind::Denied, "{error}");
    println!("{error}");
    let other = fs::read_to_string(host.path("other.pub")).expect("a key");
    fs::write(host.path("other hosts"), format!("[127.0.0.1]:{} {other}", host.0.port)).expect("a file");
    let changed = RsyncConfig { known_hosts: Some(host.path("other hosts")), ..host.config(&root) };
    let error = Rsync::open(changed).expect("a store").size(&path("images")).await.expect_err("changed");
    assert_eq!(error.kind(), StoreErrorKind::Denied, "{error}");
    assert!(error.why().contains("has changed"), "{error}");
    assert_eq!(fs::read_to_string(host.path("empty")).expect("a file"), "", "nothing is accepted in passing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_denied() {
    let Some(host) = Host::start() else { return };
    let root = host.path("root").display().to_string();
    let wrong = RsyncConfig { identity: Some(host.path("other")), ..host.config(&root) };
    let error = Rsync::open(wrong).expect("a store").put_new(&path("a"), body(1, 1)).await.expect_err("wrong key");
    assert_eq!(error.kind(), StoreErrorKind::Denied, "{error}");
    println!("{error}");
    let absent = RsyncConfig { identity: Some(host.path("no such key")), ..host.config(&root) };
    let error = Rsync::open(absent).expect_err("no such key").to_string();
    assert!(error.contains("no such key"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_is_an_error_and_then_works_again() {
    let Some(host) = Host::start() else { return };
    let store = Arc::new(host.store());
    let mut errors = Vec::new();
    for round in 0..40_u64 {
        let writing = tokio::spawn({
            let store = Arc::clone(&store);
            async move { put_all(&store, &format!("cut/{round}"), 24, 2 << 20).await }
        });
        tokio::time::sleep(Duration::from_millis(60 + 40 * (round % 12))).await;
        host.cut();
        errors = writing.await.expect("no panic");
        if !errors.is_empty() {
            break;
        }
    }
    assert!(!errors.is_empty(), "some transfer was cut");
    assert!(errors.iter().all(|kind| *kind == StoreErrorKind::Unreachable), "{errors:?}");
    assert_eq!(put_all(&store, "after", 3, 1000).await, [], "it connects again");
    for entry in store.list("").await.expect("a listing") {
        assert!(entry.bytes == 2 << 20 || entry.bytes == 1000, "{} is not whole", entry.path);
    }
    host.cut();
    assert_eq!(store.size(&path("after/00/0")).await.expect("it answers again"), Some(1000));
    let nobody = RsyncConfig { port: Some(free_port()), ..host.config("/") };
    let error = Rsync::open(nobody).expect("a store").size(&path("a")).await.expect_err("nobody answers");
    assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
    println!("{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_rsync_left_is_swept() {
    let Some(host) = Host::start() else { return };
    let store = host.store();
    store.put_new(&path("blocks/1f/1f3a"), body(1, 10)).await.expect("put");
    let (stale, own) = (host.path("root/blocks/1f/.1f3a.XuTkWc"), host.path("root/.htaccess"));
    fs::write(&stale, "half").expect("a file");
    fs::write(&own, "the administrator's").expect("a file");
    assert_eq!(store.list("").await.expect("a listing").len(), 1, "neither is an object");
    store.sweep().await.expect("swept");
    assert!(!stale.exists() && own.exists());
    assert_eq!(store.size(&path("blocks/1f/1f3a")).await.expect("a size"), Some(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_no_objects_and_lead_nowhere() {
    let Some(host) = Host::start() else { return };
    let store = host.store();
    fs::write(host.path("secret"), "secret").expect("a file");
    std::os::unix::fs::symlink(host.path("secret"), host.path("root/link")).expect("a link");
    fs::write(host.path("root/with space"), "x").expect("a file");
    assert_eq!(store.list("").await.expect("a listing"), []);
    store.get(&path("link"), 100).await.expect_err("a link is not followed");
    fs::create_dir(host.path("root/directory")).expect("a directory");
    let error = store.get(&path("directory"), 100).await.expect_err("a directory is no object");
    assert_eq!(error.kind(), StoreErrorKind::Protocol, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_restricted_to_rsync_will_do() {
    let Some(host) = Host::start() else { return };
    let (Some(rrsync), true) = (program("rrsync"), program("python3").is_some()) else {
        return skipped("rrsync (rsync of Debian 12) or python3 is not installed");
    };
    let root = host.path("root");
    for options in ["", "-no-lock "] {
        let below = root.join(if options.is_empty() { "locked" } else { "free" });
        fs::create_dir(&below).expect("a directory");
        host.allow(&format!("command=\"{} {options}{}\",restrict ", rrsync.display(), below.display()));
        let store = Arc::new(Rsync::open(host.config("/")).expect("a store"));
        let started = Instant::now();
        assert_eq!(put_all(&store, "blocks", 600, 100).await, [], "rrsync lets in one at a time by default");
        assert_eq!(store.list("blocks").await.expect("a listing").len(), 600);
        println!("rrsync {options}: 600 objects in {:.2?}", started.elapsed());
        assert!(below.join("blocks/00/0").exists());
    }
    conformance::all(Arc::new(Rsync::open(host.config("/suite")).expect("a store"))).await;
    assert!(root.join("free/suite/os.head").exists());
    host.allow(&format!("command=\"{} -ro {}\",restrict ", rrsync.display(), root.display()));
    let error = host.store().put_new(&path("a"), body(1, 1)).await.expect_err("read-only");
    assert_eq!(error.kind(), StoreErrorKind::Denied, "{error}");
    println!("{error}");
}

/// A small file system, unmounted on drop.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path, options: &str) -> Option<Self> {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(at).output();
        mount.is_ok_and(|done| done.status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_full() {
    let Some(host) = Host::start() else { return };
    let Some(_small) = Small::mount(&host.0.root, "size=8m") else { return skipped("mounting a tmpfs needs root") };
    let store = host.store();
    store.put_new(&path("first"), body(1, 4 << 20)).await.expect("there is room");
    let error = store.put_new(&path("second"), body(2, 6 << 20)).await.expect_err("there is no room");
    assert_eq!(error.kind(), StoreErrorKind::Full, "{error}");
    println!("{error}");
    assert_eq!(store.size(&path("second")).await.expect("a size"), None, "nothing half");
    assert_eq!(store.get(&path("first"), 8 << 20).await.expect("whole"), body(1, 4 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_disk_is_denied() {
    let Some(host) = Host::start() else { return };
    let Some(_small) = Small::mount(&host.0.root, "size=8m,ro") else { return skipped("mounting a tmpfs needs root") };
    let error = host.store().put_new(&path("blocks/1f/1f3a"), body(1, 1)).await.expect_err("read-only");
    assert_eq!(error.kind(), StoreErrorKind::Denied, "{error}");
    println!("{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_stays_behind() {
    let Some(host) = Host::start() else { return };
    let store = host.store();
    store.put_new(&path("a"), body(1, 1)).await.expect("put");
    // A transfer whose result is no longer awaited.
    let _ = tokio::time::timeout(Duration::from_millis(1), store.get(&path("a"), 10)).await;
    assert!(!host.connections().is_empty(), "the connection stays for the next one");
    drop(store);
    let started = Instant::now();
    while !host.connections().is_empty() {
        assert!(started.elapsed() < Duration::from_secs(10), "the connection ends with the store");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("the connection ended {:.2?} after the store", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_small_objects() {
    let Some(host) = Host::start() else { return };
    let store = Arc::new(host.store());
    let started = Instant::now();
    assert_eq!(put_all(&store, "blocks", 2000, 2000).await, []);
    println!("2000 objects of 2 kB: {:.2?}", started.elapsed());
    let started = Instant::now();
    for i in 0..20 {
        store.put_new(&path(&format!("single/{i}")), body(i, 2000)).await.expect("put");
    }
    println!("one at a time: {:.0?} each, 2000 would take {:.0?}", started.elapsed() / 20, started.elapsed() * 100);
    let started = Instant::now();
    assert_eq!(put_all(&store, "large", 40, 4 << 20).await, []);
    let seconds = started.elapsed().as_secs_f64();
    println!("40 objects of 4 MiB: {seconds:.2} s, {:.0} MB/s", 40.0 * 4.194_304 / seconds);
    let started = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for i in 0..2000_usize {
        let store = Arc::clone(&store);
        running.spawn(async move {
            let at = path(&format!("blocks/{:02x}/{i}", i % 256));
            assert_eq!(store.get(&at, 2000).await.expect("there"), body(i as u64, 2000));
            store.delete(&at).await.expect("deleted");
        });
    }
    running.join_all().await;
    println!("2000 objects read and deleted: {:.2?}", started.elapsed());
    assert_eq!(store.list("blocks").await.expect("a listing"), []);
}

/// Neither rsync nor ssh receives hfl's key, its password, or the secrets of other mirrors.
#[test]
fn programs_get_no_secrets() {
    let Some(host) = Host::start() else { return };
    let mut lab = Lab::new();
    lab.write("image", Random(1).bytes(1 << 20));
    lab.write("first.toml", "[[mirror]]\nname = \"first\"\nwrite = \"./first\"\n");
    lab.ok(&["publish", "image", "--name", "os", "--to", "first.toml"]);
    let key = fs::read_to_string(lab.path("home/.config/hfl/keys/os.key")).expect("a key");
    let other = "[[mirror]]\nname = \"other\"\nwrite = \"ftp://u@127.0.0.1:1/x\"\npassword-env = \"OF_ANOTHER\"\n";
    lab.write("mirrors.toml", host.0.table("rsync", "own") + other);
    for name in ["rsync", "ssh"] {
        let real = program(name).expect("it is there").display().to_string();
        let dump = lab.path(&format!("env-{name}")).display().to_string();
        let wrapper = lab.write(&format!("bin/{name}"), format!("#!/bin/sh\nenv >> {dump}\nexec {real} \"$@\"\n"));
        fs::set_permissions(wrapper, fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    let path = std::env::var("PATH").unwrap_or_default();
    lab.set("PATH", &format!("{}:{path}", lab.path("bin").display()));
    lab.set("HFL_KEY", &key);
    for name in ["HFL_KEY_PASSWORD", "OF_ANOTHER", "AWS_SECRET_ACCESS_KEY", "SOME_TOKEN"] {
        lab.set(name, "swordfish");
    }
    lab.set("HARMLESS", "told");
    let output = lab.run(&["publish", "image", "--name", "os", "--to", "mirrors.toml", "--first"]);
    assert_eq!(code(&output), 6, "one mirror does not answer: {}", stderr(&output));
    let secret = key.lines().nth(1).expect("the secret half");
    for name in ["rsync", "ssh"] {
        let environment = fs::read_to_string(lab.path(&format!("env-{name}"))).expect("it ran");
        assert!(environment.contains("HARMLESS=told") && environment.contains("PATH="), "the rest is handed on");
        for told in ["HFL_KEY", "AWS_", "OF_ANOTHER", "swordfish", secret] {
            assert!(!environment.contains(told), "{name} is told {told}");
        }
    }
}

/// An entry in an object's place that is not a file, or that cannot be read, does not count as absent.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_is_not_absent() {
    let Some(host) = Host::start() else { return };
    let store = host.store();
    store.put_new(&path("images"), body(1, 10)).await.expect("put");
    std::os::unix::fs::symlink("/nowhere", host.path("root/os.head")).expect("a link");
    let error = store.get(&path("os.head"), 100).await.expect_err("it leads nowhere");
    assert_ne!(error.kind(), StoreErrorKind::NotFound, "{error}");
    store.swap(&path("os.head"), None, body(2, 10)).await.expect_err("it is there");
    assert!(host.path("root/os.head").is_symlink(), "it is left as it is");
    assert_eq!(store.get(&path("other.head"), 100).await.expect_err("nothing").kind(), StoreErrorKind::NotFound);
}
