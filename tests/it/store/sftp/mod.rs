//! The SFTP driver on OpenSSH.

mod login;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hfl::format::layout::RepoPath;
use hfl::store::sftp::{Sftp, SftpConfig};
use hfl::store::{Fetch as _, Put, Store, StoreErrorKind, Swap};

use crate::support::conformance;
use crate::support::lab::{Random, full, skipped};
use crate::support::proxy::Proxy;
use crate::support::servers::sshd::{Sshd, known_line};
use crate::support::servers::{local, program};

const NO_SSHD: &str = "no sshd (openssh-server)";

fn path(text: &str) -> RepoPath {
    text.parse().expect("a path")
}

fn body(seed: u64, bytes: usize) -> Bytes {
    Random(seed).bytes(bytes).into()
}

fn config(server: &Sshd, base: &str) -> SftpConfig {
    SftpConfig {
        host: server.host.into(),
        port: Some(server.port),
        user: Some(server.user.clone()),
        path: server.root.join(base).display().to_string(),
        identity: Some(server.identity.clone()),
        known_hosts: Some(server.known_hosts.clone()),
        password: None,
    }
}

/// The configuration of the same server through a proxy.
pub fn far_config(server: &Sshd, base: &str, proxy: &Proxy) -> SftpConfig {
    let port = proxy.address().port();
    let known = server.path(&format!("known_{port}"));
    fs::write(&known, known_line(port, &server.path("host_ed25519"))).expect("a file");
    SftpConfig { port: Some(port), known_hosts: Some(known), ..config(server, base) }
}

fn files(directory: &Path) -> usize {
    walkdir::WalkDir::new(directory).into_iter().flatten().filter(|e| e.file_type().is_file()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_conforms() {
    let Some(server) = Sshd::start() else { return skipped(NO_SSHD) };
    let store = Sftp::open(config(&server, "some/where")).expect("a store");
    conformance::all(Arc::new(store)).await;
    let temporaries = server.root.join("some/where/.hfl-tmp");
    assert_eq!(files(&temporaries), 0, "nothing is left over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_extensions_conforms_but_for_replacing() {
    let subsystem = "Subsystem sftp internal-sftp -P posix-rename,fsync,limits,statvfs\n";
    let Some(server) = Sshd::start_with(&["ed25519"], subsystem) else { return skipped(NO_SSHD) };
    let store = Sftp::open(config(&server, "plain")).expect("a store");
    let (at, large) = (path("blocks/ab/abcd"), body(1, 3 << 20));
    assert_eq!(store.put_new(&at, large.clone()).await.expect("a new object"), Put::Created);
    assert_eq!(store.put_new(&at, body(2, 10)).await.expect("an answer"), Put::Exists);
    assert_eq!(store.get(&at, 4 << 20).await.expect("it is there"), large);
    store.put_replace(&path("os.head"), body(3, 10)).await.expect("nothing to replace");
    let error = store.put_replace(&path("os.head"), body(4, 20)).await.expect_err("no replacement in one step");
    assert_eq!(error.kind(), StoreErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains("posix-rename"), "{error}");
    assert_eq!(store.get(&path("os.head"), 100).await.expect("it is there"), body(3, 10), "never a gap");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_end_with_their_store() {
    let Some(server) = Sshd::start() else { return skipped(NO_SSHD) };
    let store = Sftp::open(config(&server, "ends")).expect("a store");
    store.put_new(&path("a"), body(1, 10)).await.expect("a new object");
    assert!(server.connections() > 0);
    drop(store);
    let started = Instant::now();
    while server.connections() > 0 {
        assert!(started.elapsed() < Duration::from_secs(10), "a connection stays");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_is_an_error_and_the_next_call_works() {
    let Some(server) = Sshd::start() else { return skipped(NO_SSHD) };
    let proxy = Proxy::start(local(server.port));
    let faults = proxy.faults();
    let store = Sftp::open(far_config(&server, "cut", &proxy)).expect("a store");
    let (at, large) = (path("blocks/00/0001"), body(1, 8 << 20));
    store.put_new(&path("first"), body(2, 10)).await.expect("a new object");
    for bytes in [200, 2000, 100_000, 3 << 20, 6 << 20] {
        faults.reset_after_sent(Some(bytes..bytes + 1));
        faults.reset_all();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (started, connections) = (Instant::now(), faults.connections());
        let error = store.put_new(&at, large.clone()).await.expect_err("cut");
        assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
        assert!(faults.connections() > connections, "it was a new connection that was cut");
        assert!(started.elapsed() < Duration::from_secs(5), "it shows at once: {:?}", started.elapsed());
        assert!(!server.root.join("cut/blocks/00/0001").exists(), "nothing partial");
        faults.reset_after_sent(None);
        store.size(&at).await.expect("it works again");
    }
    assert!(files(&server.root.join("cut/.hfl-tmp")) > 0, "what was written is left over");
    store.sweep().await.expect("swept");
    assert_eq!(files(&server.root.join("cut/.hfl-tmp")), 0);
    assert_eq!(store.put_new(&at, large.clone()).await.expect("a new object"), Put::Created);
    assert_eq!(store.get(&at, 8 << 20).await.expect("it is there"), large);
    faults.reset_all();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(store.size(&at).await.expect("a connection that ended at rest is made anew"), Some(8 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_listens() {
    let Some(server) = Sshd::start() else { return skipped(NO_SSHD) };
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let closed = SftpConfig { port: Some(crate::support::servers::free_port()), ..config(&server, "x") };
    let error = Sftp::open(closed).expect("a store").get(&path("a"), 1).await.expect_err("nobody there");
    assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
    assert!(error.to_string().contains("connection refused"), "{error}");
    if full() {
        let port = silent.local_addr().expect("an address").port();
        let silent = SftpConfig { port: Some(port), ..config(&server, "x") };
        let started = Instant::now();
        let error = Sftp::open(silent).expect("a store").get(&path("a"), 1).await.expect_err("silence");
        assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
        println!("a silent server: {error} after {:.1?}", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_full() {
    let Some(server) = Sshd::start() else { return skipped(NO_SSHD) };
    let disk = server.root.join("disk");
    fs::create_dir(&disk).expect("a directory");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "hfl"]).arg(&disk).output();
    if !mounted.is_ok_and(|mounted| mounted.status.success()) {
        return skipped("no tmpfs can be mounted (not root)");
    }
    let store = Sftp::open(config(&server, "disk")).expect("a store");
    let first = store.put_new(&path("blocks/1"), body(1, 1 << 20)).await;
    let second = store.put_new(&path("blocks/2"), body(2, 1500 << 10)).await;
    let small = store.put_new(&path("blocks/3"), body(3, 1000)).await;
    let there = disk.join("blocks/2").exists();
    drop(store);
    assert!(Command::new("umount").arg("-l").arg(&disk).status().is_ok_and(|s| s.success()));
    assert_eq!(first.expect("room"), Put::Created);
    let error = second.expect_err("no room");
    assert_eq!(error.kind(), StoreErrorKind::Full, "{error}");
    println!("{error}");
    assert!(!there, "nothing partial");
    assert_eq!(small.expect("what failed takes no room"), Put::Created);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_shows_objects_only() {
    let Some(server) = Sshd::start() else { return skipped(NO_SSHD) };
    let base = server.root.join("list");
    for file in ["a", "b/c", "b/.hidden", ".hfl-tmp/1-2", "b/a name", "-x", ".git/config"] {
        let file = base.join(file);
        fs::create_dir_all(file.parent().expect("a parent")).expect("a directory");
        fs::write(file, "12345").expect("a file");
    }
    std::os::unix::fs::symlink("/etc", base.join("etc")).expect("a link");
    std::os::unix::fs::symlink("a", base.join("link")).expect("a link");
    let store = Sftp::open(config(&server, "list")).expect("a store");
    let mut found: Vec<_> = store.list("").await.expect("a listing").into_iter().map(|e| e.path.to_string()).collect();
    found.sort();
    assert_eq!(found, ["a", "b/c"]);
    store.sweep().await.expect("swept");
    assert!(!base.join(".hfl-tmp/1-2").exists() && base.join(".git/config").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_directory_is_made_again() {
    let Some(server) = Sshd::start() else { return skipped(NO_SSHD) };
    let store = Sftp::open(config(&server, "lost")).expect("a store");
    store.put_new(&path("blocks/00/1"), body(1, 10)).await.expect("a new object");
    fs::remove_dir_all(server.root.join("lost")).expect("removed");
    assert_eq!(store.put_new(&path("blocks/00/1"), body(1, 10)).await.expect("a new object"), Put::Created);
    fs::remove_dir_all(server.root.join("lost/blocks")).expect("removed");
    assert_eq!(store.swap(&path("blocks/00/2"), None, body(2, 10)).await.expect("an answer"), Swap::Done);
}

/// Large objects with a round trip of 50 ms: the link is saturated in both directions.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_line_is_filled() {
    const OBJECTS: u64 = 24;
    const BYTES: usize = 4 << 20;
    let Some(server) = Sshd::start() else { return skipped(NO_SSHD) };
    let proxy = Proxy::start(local(server.port));
    proxy.faults().delay(Duration::from_millis(25), Duration::from_millis(25));
    let store = Sftp::open(far_config(&server, "long", &proxy)).expect("a store");
    let started = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for i in 0..OBJECTS {
        let store = store.clone();
        running.spawn(async move { store.put_new(&path(&format!("o/{i}")), body(i, BYTES)).await.expect("put") });
    }
    running.join_all().await;
    let up = started.elapsed();
    let started = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for i in 0..OBJECTS {
        let store = store.clone();
        running.spawn(async move {
            let found = store.get(&path(&format!("o/{i}")), BYTES as u64).await.expect("get");
            assert_eq!(found, body(i, BYTES));
        });
    }
    running.join_all().await;
    let rate = |time: Duration| OBJECTS as f64 * BYTES as f64 / 1e6 / time.as_secs_f64();
    println!("96 MiB 50 ms away: {:.0} MB/s up, {:.0} MB/s down", rate(up), rate(started.elapsed()));
}

/// Host names in hashed form, as OpenSSH stores them.
#[tokio::test(flavor = "multi_thread")]
async fn ssh_keygen_hashes_are_understood() {
    let Some(server) = Sshd::start() else { return skipped(NO_SSHD) };
    let keygen = program("ssh-keygen").expect("it came with sshd");
    let hashed = Command::new(keygen).args(["-q", "-H", "-f"]).arg(&server.known_hosts).output().expect("ssh-keygen");
    assert!(hashed.status.success());
    assert!(fs::read_to_string(&server.known_hosts).expect("a file").starts_with("|1|"), "hashed");
    let store = Sftp::open(config(&server, "hashed")).expect("a store");
    assert_eq!(store.size(&path("a")).await.expect("a known host"), None);
}

/// A server with a strict umask: a web server can still read new files, and existing files keep their modes.
#[tokio::test(flavor = "multi_thread")]
async fn the_umask_of_the_server_does_not_decide() {
    let subsystem = "Subsystem sftp internal-sftp -u 077\n";
    let Some(server) = Sshd::start_with(&["ed25519"], subsystem) else { return skipped(NO_SSHD) };
    let store = Sftp::open(config(&server, "deep/er")).expect("a store");
    store.put_new(&path("blocks/ab/abcd"), body(1, 5000)).await.expect("a new object");
    store.put_replace(&path("os.head"), body(2, 10)).await.expect("a new object");
    let mode = |at: &str| fs::metadata(server.root.join(at)).expect("it is there").permissions().mode() & 0o7777;
    let made = ["deep", "deep/er", "deep/er/blocks", "deep/er/blocks/ab"].map(mode);
    assert_eq!((made, mode("deep/er/blocks/ab/abcd"), mode("deep/er/os.head")), ([0o755; 4], 0o644, 0o644));
    let closed = fs::Permissions::from_mode(0o640);
    fs::set_permissions(server.root.join("deep/er/os.head"), closed).expect("a mode");
    store.put_replace(&path("os.head"), body(3, 10)).await.expect("replaced");
    assert_eq!(mode("deep/er/os.head"), 0o640);
}

/// OpenSSH reports "no such file" for a dangling link and for a path below a file.
#[tokio::test(flavor = "multi_thread")]
async fn no_such_file_is_looked_into() {
    let Some(server) = Sshd::start() else { return skipped(NO_SSHD) };
    let store = Sftp::open(config(&server, "m")).expect("a store");
    store.put_new(&path("a"), body(1, 10)).await.expect("a new object");
    std::os::unix::fs::symlink("/nowhere", server.root.join("m/os.head")).expect("a link");
    let error = store.get(&path("os.head"), 100).await.expect_err("it leads nowhere");
    assert_ne!(error.kind(), StoreErrorKind::NotFound, "{error}");
    store.swap(&path("os.head"), None, body(2, 10)).await.expect_err("it is there");
    assert!(server.root.join("m/os.head").is_symlink(), "it is left as it is");
    let below = Sftp::open(config(&server, "m/a")).expect("a store");
    let error = below.get(&path("os.head"), 100).await.expect_err("a file is no base");
    assert_ne!(error.kind(), StoreErrorKind::NotFound, "{error}");
    assert_eq!(store.get(&path("b"), 100).await.expect_err("nothing is there").kind(), StoreErrorKind::NotFound);
}
