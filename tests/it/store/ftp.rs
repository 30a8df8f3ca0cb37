//! The FTP driver, on real servers.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hfl::format::layout::RepoPath;
use hfl::store::Secret;
use hfl::store::ftp::{Ftp, FtpConfig, Tls};
use hfl::store::{Put, Store, StoreErrorKind, Swap};

use crate::support::conformance;
use crate::support::lab::{Random, skipped};
use crate::support::servers::proftpd::{PASSWORD, ProFtpd, USER};
use crate::support::servers::vsftpd::VsFtpd;
use crate::support::servers::{Daemon, free_ports, local, program};

const NO_PROFTPD: &str = "proftpd-core and proftpd-mod-crypto are not installed";
const NO_VSFTPD: &str = "vsftpd is not installed";

/// The configuration of the test user on proftpd.
fn on_proftpd(server: &ProFtpd, path: &str) -> FtpConfig {
    FtpConfig {
        host: "127.0.0.1".into(),
        port: Some(server.port),
        user: Some(USER.into()),
        path: path.into(),
        password: Some(Secret::new(PASSWORD)),
        tls: if server.ca_file.is_some() { Tls::Explicit } else { Tls::None },
        ca_file: server.ca_file.clone(),
    }
}

fn on_vsftpd(server: &VsFtpd, tls: Tls) -> FtpConfig {
    FtpConfig {
        host: "localhost".into(),
        port: Some(server.port),
        user: None,
        path: "pub/hfl".into(),
        password: None,
        tls,
        ca_file: server.ca_file.clone(),
    }
}

fn open(config: FtpConfig) -> Arc<dyn Store> {
    Arc::new(Ftp::open(config).expect("a usable configuration"))
}

fn path(text: &str) -> RepoPath {
    text.parse().expect("a path")
}

async fn on_proftpd_all(tls: bool) {
    let Some(server) = ProFtpd::start(tls, "") else { return skipped(NO_PROFTPD) };
    let store = open(on_proftpd(&server, "mirrors/one"));
    assert!(!store.location().contains(PASSWORD) && store.location().contains(USER), "{}", store.location());
    conformance::all(Arc::clone(&store)).await;
    let left = fs::read_dir(server.root.join("mirrors/one/.hfl-tmp")).expect("a directory").count();
    assert_eq!(left, 0, "nothing is left half written");
}

#[tokio::test(flavor = "multi_thread")]
async fn proftpd_conforms() {
    on_proftpd_all(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn proftpd_with_tls_conforms() {
    on_proftpd_all(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vsftpd_conforms() {
    let Some(server) = VsFtpd::start(None, "") else { return skipped(NO_VSFTPD) };
    conformance::all(open(on_vsftpd(&server, Tls::None))).await;
    assert!(server.root.join("pub/hfl/os.head").is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn vsftpd_with_tls_conforms() {
    let Some(server) = VsFtpd::start(Some(false), "") else { return skipped(NO_VSFTPD) };
    conformance::all(open(on_vsftpd(&server, Tls::Explicit))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vsftpd_with_tls_from_the_first_byte_conforms() {
    let Some(server) = VsFtpd::start(Some(true), "") else { return skipped(NO_VSFTPD) };
    conformance::all(open(on_vsftpd(&server, Tls::Implicit))).await;
}

/// proftpd requires every data connection to resume the TLS session of the control connection. Otherwise it refuses
/// data connections from the third upload on.
#[tokio::test(flavor = "multi_thread")]
async fn many_uploads_on_one_encrypted_control_connection() {
    let Some(server) = ProFtpd::start(true, "MaxClientsPerHost 1") else { return skipped(NO_PROFTPD) };
    let store = open(on_proftpd(&server, ""));
    for i in 0..30_u64 {
        let put = store.put_new(&path(&format!("blocks/{i}")), Random(i).bytes(2000).into()).await;
        assert_eq!(put.expect("one of many"), Put::Created, "upload {i}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_and_not_shown() {
    for tls in [false, true] {
        let Some(server) = ProFtpd::start(tls, "") else { return skipped(NO_PROFTPD) };
        let wrong = "not-the-password";
        let config = FtpConfig { password: Some(Secret::new(wrong)), ..on_proftpd(&server, "") };
        assert!(!format!("{config:?}").contains(wrong));
        let store = open(config);
        let error = store.put_new(&path("images"), "x".into()).await.expect_err("a wrong password");
        assert_eq!(error.kind(), StoreErrorKind::Denied, "{error}");
        assert!(!format!("{error} {error:?} {store:?}").contains(wrong), "{error}");
        println!("{error}");
        let none = open(FtpConfig { password: None, ..on_proftpd(&server, "") });
        let error = none.size(&path("images")).await.expect_err("no password");
        assert_eq!(error.kind(), StoreErrorKind::Denied, "{error}");
        assert!(error.to_string().contains("password"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_nobody_vouches_for_is_refused() {
    let Some(server) = ProFtpd::start(true, "") else { return skipped(NO_PROFTPD) };
    let error = open(FtpConfig { ca_file: None, ..on_proftpd(&server, "") })
        .put_new(&path("images"), "x".into())
        .await
        .expect_err("an unknown authority");
    assert_eq!(error.kind(), StoreErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("certificate is not trusted"), "{error}");
    let error = open(FtpConfig { host: "127.0.0.2".into(), ..on_proftpd(&server, "") });
    let error = error.put_new(&path("images"), "x".into()).await.expect_err("another host's certificate");
    println!("{error}");
    assert_eq!(fs::read_dir(&server.root).expect("a directory").count(), 0, "nothing was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_gets_nothing() {
    let Some(server) = ProFtpd::start(false, "") else { return skipped(NO_PROFTPD) };
    let config = FtpConfig { tls: Tls::Explicit, ..on_proftpd(&server, "") };
    let error = open(config).put_new(&path("images"), "x".into()).await.expect_err("no TLS");
    assert_eq!(error.kind(), StoreErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains("no TLS"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_given_up_leaves_nothing() {
    for tls in [false, true] {
        let Some(server) = ProFtpd::start(tls, "") else { return skipped(NO_PROFTPD) };
        let (store, at) = (open(on_proftpd(&server, "m")), path("blocks/1f/1f3a"));
        store.put_replace(&path("os.head"), "there".into()).await.expect("a first object");
        let body = Random(1).bytes(64 << 20);
        let upload = store.put_new(&at, body.into());
        assert!(tokio::time::timeout(Duration::from_millis(20), upload).await.is_err(), "64 MiB take longer");
        assert_eq!(store.size(&at).await.expect("an answer"), None);
        assert_eq!(store.put_new(&at, "whole".into()).await.expect("it works again"), Put::Created);
        assert_eq!(store.get(&at, 100).await.expect("it is there"), "whole");
        store.sweep().await.expect("swept");
        assert_eq!(fs::read_dir(server.root.join("m/.hfl-tmp")).expect("a directory").count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_during_an_upload_leaves_nothing() {
    for tls in [false, true] {
        let Some(server) = ProFtpd::start(tls, "") else { return skipped(NO_PROFTPD) };
        let (store, at) = (open(on_proftpd(&server, "m")), path("blocks/1f/1f3a"));
        store.put_replace(&path("os.head"), "there".into()).await.expect("a first object");
        let ours = only_child(&server).await;
        let upload = tokio::spawn({
            let (store, at) = (Arc::clone(&store), at.clone());
            async move { store.put_new(&at, Random(1).bytes(64 << 20).into()).await }
        });
        let temporaries = server.root.join("m/.hfl-tmp");
        while fs::read_dir(&temporaries).expect("a directory").count() == 0 {
            assert!(!upload.is_finished());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let killed = Command::new("kill").args(["-9", &ours.to_string()]).status().expect("kill runs");
        assert!(killed.success());
        let error = upload.await.expect("no panic").expect_err("a cut upload");
        assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
        println!("{error}");
        assert!(!server.root.join("m/blocks/1f/1f3a").exists(), "nothing at its place");
        assert_eq!(store.put_new(&at, "whole".into()).await.expect("it works again"), Put::Created);
    }
}

/// The one process that serves this client. The process that served the start-up check ends soon.
async fn only_child(server: &ProFtpd) -> u32 {
    loop {
        if let [only] = server.children()[..] {
            return only;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Cheap hosts allow few connections: the work continues with those that are available.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_room_for_two_gets_everything() {
    for tls in [false, true] {
        let Some(server) = ProFtpd::start(tls, "MaxClientsPerHost 2") else { return skipped(NO_PROFTPD) };
        all_arrive(&open(on_proftpd(&server, "")), "proftpd").await;
    }
    let Some(server) = VsFtpd::start(None, "max_per_ip=2") else { return skipped(NO_VSFTPD) };
    all_arrive(&open(on_vsftpd(&server, Tls::None)), "vsftpd").await;
}

async fn all_arrive(store: &Arc<dyn Store>, server: &str) {
    let mut running = tokio::task::JoinSet::new();
    for i in 0..60_u64 {
        let store = Arc::clone(store);
        running.spawn(async move { store.put_new(&path(&format!("blocks/{i}")), Random(i).bytes(3000).into()).await });
    }
    for put in running.join_all().await {
        assert_eq!(put.expect("one of many"), Put::Created, "{server}");
    }
    assert_eq!(store.list("blocks").await.expect("a listing").len(), 60, "{server}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told() {
    let Some(server) = ProFtpd::start(false, "") else { return skipped(NO_PROFTPD) };
    let store = open(on_proftpd(&server, "small"));
    full(&store, &server.root.join("small")).await;
    let Some(server) = VsFtpd::start(None, "") else { return skipped(NO_VSFTPD) };
    full(&open(FtpConfig { path: "small".into(), ..on_vsftpd(&server, Tls::None) }), &server.root.join("small")).await;
}

/// An object that does not fit causes the right error, and the space that it took is free again.
async fn full(store: &Arc<dyn Store>, base: &Path) {
    fs::create_dir(base).expect("a directory");
    let Some(_disk) = SmallDisk::mount(base) else { return skipped("a full disk needs root") };
    for bytes in [9 << 20, 40 << 20] {
        let error = store.put_new(&path("blocks/too-long"), Random(1).bytes(bytes).into()).await;
        let error = error.expect_err("more than the disk holds");
        println!("{error}");
        assert_eq!(error.kind(), StoreErrorKind::Full, "{error}");
        assert_eq!(store.size(&path("blocks/too-long")).await.expect("an answer"), None);
    }
    let fits = store.put_new(&path("blocks/fits"), Random(1).bytes(6 << 20).into()).await;
    assert_eq!(fits.expect("what was half written is gone"), Put::Created);
}

/// A file system of 8 MiB, writable by everyone.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=8m,mode=777", "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|done| done.status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A link that leads back up, a hidden file, and a name that no repository has: a listing contains none of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_listing_shows_objects_only() {
    let Some(server) = ProFtpd::start(false, "") else { return skipped(NO_PROFTPD) };
    let store = open(on_proftpd(&server, ""));
    store.put_new(&path("blocks/1f/1f3a"), "x".into()).await.expect("an object");
    std::os::unix::fs::symlink("..", server.root.join("blocks/up")).expect("a link");
    std::os::unix::fs::symlink("1f/1f3a", server.root.join("blocks/link")).expect("a link");
    fs::write(server.root.join("blocks/.hidden"), "x").expect("a file");
    fs::write(server.root.join("blocks/with space"), "x").expect("a file");
    let listed = store.list("").await.expect("a listing");
    assert_eq!(listed.iter().map(|e| e.path.as_str()).collect::<Vec<_>>(), ["blocks/1f/1f3a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_allowed_is_told() {
    let rules = "<Limit STOR MKD>\nDenyAll\n</Limit>";
    let Some(server) = ProFtpd::start(false, rules) else { return skipped(NO_PROFTPD) };
    let error = open(on_proftpd(&server, "")).put_new(&path("images"), "x".into()).await.expect_err("read-only");
    println!("{error}");
    assert_eq!(error.kind(), StoreErrorKind::Denied, "{error}");
}

/// A server behind a router announces an unreachable address, and refuses EPSV, the command that announces none.
#[tokio::test(flavor = "multi_thread")]
async fn data_connections_go_where_the_control_connection_goes() {
    let lies = "pasv_address=192.0.2.1\ncmds_denied=EPSV";
    let Some(server) = VsFtpd::start(None, lies) else { return skipped(NO_VSFTPD) };
    let store = open(on_vsftpd(&server, Tls::None));
    assert_eq!(store.put_new(&path("images"), "x".into()).await.expect("an object"), Put::Created);
    assert_eq!(store.get(&path("images"), 9).await.expect("it is there"), "x");
}

/// Measures the time per object and prints it.
#[tokio::test(flavor = "multi_thread")]
async fn small_objects_take_their_time() {
    const OBJECTS: u64 = 500;
    for tls in [false, true] {
        let Some(server) = ProFtpd::start(tls, "") else { return skipped(NO_PROFTPD) };
        let store = open(on_proftpd(&server, ""));
        for jobs in [1, store.jobs()] {
            let started = Instant::now();
            let room = Arc::new(tokio::sync::Semaphore::new(jobs));
            let mut running = tokio::task::JoinSet::new();
            for i in 0..OBJECTS {
                let (store, room) = (Arc::clone(&store), Arc::clone(&room));
                running.spawn(async move {
                    let _room = room.acquire().await;
                    store.put_new(&path(&format!("j{jobs}/{i}")), Random(i).bytes(2000).into()).await
                });
            }
            assert!(running.join_all().await.into_iter().all(|put| put.is_ok_and(|put| put == Put::Created)));
            println!("proftpd, TLS {tls}: {OBJECTS} objects of 2 kB, {jobs} at once: {:.2?}", started.elapsed());
        }
    }
}

/// vsftpd gives the same response for a file that it cannot open and for a missing one: `550 Failed to open file.`
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_opened_is_neither_absent_nor_overwritten() {
    let Some(server) = VsFtpd::start_as_nobody() else { return skipped("needs root and vsftpd") };
    let store = open(on_vsftpd(&server, Tls::None));
    let absent = async |name: &str| store.get(&path(name), 100).await.expect_err("nothing is there").kind();
    assert_eq!(absent("os.head").await, StoreErrorKind::NotFound, "no base yet");
    fs::create_dir(server.root.join("pub")).expect("a directory");
    chown(server.root.join("pub"), Some(65534), Some(65534)).expect("an owner");
    assert_eq!(absent("os.head").await, StoreErrorKind::NotFound, "half of a base");
    store.put_replace(&path("os.head"), "one".into()).await.expect("a head");
    store.put_replace(&path("index/os/a"), "one".into()).await.expect("an object");
    for name in ["images", "other.head", "retired/os/7-a", "index/os/b"] {
        assert_eq!(absent(name).await, StoreErrorKind::NotFound, "{name}");
        assert_eq!(store.size(&path(name)).await.expect("an answer"), None, "{name}");
        store.delete(&path(name)).await.expect("nothing to remove");
    }
    let (head, index) = (server.root.join("pub/hfl/os.head"), server.root.join("pub/hfl/index/os"));
    let allow = |at: &Path, mode| fs::set_permissions(at, fs::Permissions::from_mode(mode)).expect("a mode");
    allow(&head, 0o000);
    allow(&index, 0o000);
    for name in ["os.head", "index/os/a", "index/os/b"] {
        let error = store.get(&path(name), 100).await.expect_err("out of reach");
        assert_eq!(error.kind(), StoreErrorKind::Denied, "{error}");
        println!("{error}");
        store.swap(&path(name), None, "two".into()).await.expect_err("out of reach");
    }
    assert_eq!(store.size(&path("os.head")).await.expect("its size shows"), Some(3));
    store.size(&path("index/os/a")).await.expect_err("out of reach");
    store.delete(&path("index/os/a")).await.expect_err("out of reach");
    assert_eq!(store.put_new(&path("os.head"), "two".into()).await.expect("an answer"), Put::Exists);
    allow(&head, 0o644);
    allow(&index, 0o755);
    assert_eq!(store.get(&path("os.head"), 100).await.expect("it is there"), "one");
    assert_eq!(fs::read(index.join("a")).expect("it is there"), b"one");
    // The driver returned to the login directory each time.
    assert_eq!(store.list("").await.expect("a listing").len(), 2);
}

/// proftpd distinguishes a file that it cannot open from a missing one.
#[tokio::test(flavor = "multi_thread")]
async fn words_that_are_clear_are_believed() {
    let Some(server) = ProFtpd::start(false, "") else { return skipped(NO_PROFTPD) };
    let store = open(on_proftpd(&server, ""));
    store.put_replace(&path("denied.head"), "one".into()).await.expect("a head");
    let head = server.root.join("denied.head");
    fs::set_permissions(&head, fs::Permissions::from_mode(0o000)).expect("a mode");
    let error = store.get(&path("denied.head"), 100).await.expect_err("out of reach");
    assert_eq!(error.kind(), StoreErrorKind::Denied, "{error}");
    store.swap(&path("denied.head"), None, "two".into()).await.expect_err("out of reach");
    fs::set_permissions(&head, fs::Permissions::from_mode(0o644)).expect("a mode");
    assert_eq!(store.get(&path("denied.head"), 100).await.expect("it is there"), "one");
    fs::remove_file(&head).expect("removed");
    let error = store.get(&path("denied.head"), 100).await.expect_err("nothing is there");
    assert_eq!(error.kind(), StoreErrorKind::NotFound, "{error}");
}

/// rclone's server has a separate code for a missing file: `551 File not available`.
#[tokio::test(flavor = "multi_thread")]
async fn rclone_can_be_written_to() {
    let Some(rclone) = program("rclone") else { return skipped("needs rclone") };
    let home = tempfile::tempdir().expect("a directory");
    let (root, ports) = (home.path().join("root"), free_ports(20));
    fs::create_dir(&root).expect("a directory");
    let mut command = Command::new(rclone);
    command.args(["serve", "ftp"]).arg(&root).args(["--addr", &format!("127.0.0.1:{ports}")]);
    command.args(["--passive-port", &format!("{}-{}", ports + 1, ports + 19), "--user", USER, "--pass", PASSWORD]);
    command.args(["--config", "/dev/null"]);
    let _daemon = Daemon::start(command, &home.path().join("log"), local(ports));
    let store = open(FtpConfig {
        host: "127.0.0.1".into(),
        port: Some(ports),
        user: Some(USER.into()),
        path: "m".into(),
        password: Some(Secret::new(PASSWORD)),
        tls: Tls::None,
        ca_file: None,
    });
    for name in ["images", "publish.lock"] {
        let error = store.get(&path(name), 100).await.expect_err("nothing is there");
        assert_eq!(error.kind(), StoreErrorKind::NotFound, "{error}");
        assert_eq!(store.put_new(&path(name), "one".into()).await.expect("a new object"), Put::Created);
        assert_eq!(store.get(&path(name), 100).await.expect("it is there"), "one");
    }
    assert_eq!(store.swap(&path("os.head"), None, "head".into()).await.expect("a head"), Swap::Done);
}
