//! The directory driver on local file systems, and on a network share.

use std::fs::{self, File};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hfl::format::layout::RepoPath;
use hfl::store::directory::Directory;
use hfl::store::{Exclusive, Fetch as _, Put, Store, StoreErrorKind, Swap};
use hfl::system::host::{Host, ThisHost};

use crate::support::conformance;
use crate::support::lab::{Lab, Random, code, skipped, stderr};
use crate::support::servers::program;
use crate::support::through::through;

fn path(text: &str) -> RepoPath {
    text.parse().unwrap()
}

fn mkfifo(at: &Path) {
    assert!(Command::new("mkfifo").arg(at).status().unwrap().success());
}

fn mode(at: impl AsRef<Path>) -> u32 {
    fs::metadata(at).unwrap().permissions().mode() & 0o7777
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_conforms() {
    let directory = tempfile::tempdir().unwrap();
    conformance::all(Arc::new(Directory::new(directory.path()))).await;
}

/// Something that is not a file is refused at once, and not treated as absent.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_in_the_place_of_a_head_is_refused_at_once() {
    let home = tempfile::tempdir().unwrap();
    mkfifo(&home.path().join("os.head"));
    let _socket = std::os::unix::net::UnixListener::bind(home.path().join("images")).unwrap();
    let store = Directory::new(home.path());
    for name in ["os.head", "images"] {
        let read = tokio::time::timeout(Duration::from_secs(5), store.get(&path(name), 1 << 20)).await;
        let error = read.expect("at once").unwrap_err();
        assert_ne!(error.kind(), StoreErrorKind::NotFound, "{error}");
        println!("{error}");
        store.swap(&path(name), None, "new".into()).await.unwrap_err();
        assert!(!fs::symlink_metadata(home.path().join(name)).unwrap().is_file(), "it is left as it is");
    }
    assert_eq!(store.list("").await.unwrap(), []);
}

/// Links are followed to wherever the publisher points them. A dangling link is not an absent object.
#[tokio::test(flavor = "multi_thread")]
async fn links_are_followed_and_a_broken_one_is_not_absent() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    fs::create_dir_all(at("disk/1f")).unwrap();
    fs::create_dir(at("m")).unwrap();
    fs::write(at("disk/1f/1f3a"), "block").unwrap();
    symlink("../disk", at("m/blocks")).unwrap();
    symlink("../disk/1f/1f3a", at("m/linked")).unwrap();
    symlink("../gone", at("m/os.head")).unwrap();
    symlink("../gone", at("m/index")).unwrap();
    let store = Directory::new(at("m"));
    assert_eq!(store.get(&path("blocks/1f/1f3a"), 10).await.unwrap(), "block");
    assert_eq!(store.size(&path("linked")).await.unwrap(), Some(5));
    let listed = store.list("").await.unwrap();
    assert_eq!(listed.iter().map(|e| (e.path.as_str(), e.bytes)).collect::<Vec<_>>(), [("linked", 5)]);
    for name in ["os.head", "index/os/1-0123456789ab.idx"] {
        let error = store.get(&path(name), 100).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
        assert!(error.to_string().contains("leads nowhere"), "{error}");
        assert_eq!(store.size(&path(name)).await.unwrap_err().kind(), StoreErrorKind::Unreachable);
    }
    store.swap(&path("os.head"), None, "new".into()).await.expect_err("what it is cannot be read");
    assert!(fs::symlink_metadata(at("m/os.head")).unwrap().is_symlink());
    store.list("index").await.unwrap_err();
    fs::write(at("file"), "").unwrap();
    let error = Directory::new(at("file")).get(&path("os.head"), 100).await.unwrap_err();
    assert_ne!(error.kind(), StoreErrorKind::NotFound, "what lies below a file is not absent: {error}");
}

/// A publisher with the umask of a hardened machine: a web server can still read the mirror, and what existed before
/// keeps its restrictive mode.
#[test]
fn the_umask_does_not_decide_who_can_read_a_mirror() {
    let lab = Lab::new();
    let table = |name: &str, place: &str| format!("[[mirror]]\nname = \"{name}\"\nwrite = \"./{place}\"\n");
    lab.write("mirrors.toml", table("new", "deep/new") + &table("old", "old"));
    lab.write("image", Random(1).bytes(3 << 20));
    fs::create_dir(lab.path("old")).unwrap();
    fs::set_permissions(lab.path("old"), fs::Permissions::from_mode(0o700)).unwrap();
    let publish = || {
        let hfl = lab.command(&["publish", "image", "--name", "os", "--to", "mirrors.toml"]);
        let mut shell = Command::new("sh");
        shell.args(["-c", "umask 077; exec \"$0\" \"$@\""]);
        let output = through(&mut shell, &hfl).output().unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    };
    publish();
    for entry in walkdir::WalkDir::new(lab.path("deep")).into_iter().flatten() {
        let expected = if entry.file_type().is_dir() { 0o755 } else { 0o644 };
        assert_eq!(mode(entry.path()), expected, "{}", entry.path().display());
    }
    assert_eq!(mode(lab.path("old")), 0o700, "what was closed stays closed");
    fs::set_permissions(lab.path("old/os.head"), fs::Permissions::from_mode(0o640)).unwrap();
    lab.write("image", Random(2).bytes(3 << 20));
    publish();
    assert_eq!((mode(lab.path("old/os.head")), mode(lab.path("deep/new/os.head"))), (0o640, 0o644));
}

/// Under the lock, the temporaries of a dead writer are removed, and those of a running writer stay.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_dead_left_is_swept() {
    let home = tempfile::tempdir().unwrap();
    let temporaries = home.path().join(".hfl-tmp");
    fs::create_dir(&temporaries).unwrap();
    let living = File::create(temporaries.join("living-1")).unwrap();
    rustix::fs::flock(&living, rustix::fs::FlockOperation::LockExclusive).unwrap();
    fs::write(temporaries.join("dead-1"), "half").unwrap();
    mkfifo(&temporaries.join("pipe"));
    let store: Arc<dyn Store> = Arc::new(Directory::new(home.path()));
    let lock = hfl::store::lock::lock(&store, &(Arc::new(ThisHost) as Arc<dyn Host>)).await.unwrap();
    let left: Vec<_> = fs::read_dir(&temporaries).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["living-1"]);
    let other = Directory::new(home.path()).native_lock().await.unwrap_err();
    assert_eq!(other.kind(), StoreErrorKind::Locked, "{other}");
    lock.release(true).await;
    Directory::new(home.path()).native_lock().await.unwrap().expect("free again").release(true).await;
}

/// Until it executes its program, a child that is being started has all files open that this process has open.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_unlocked_is_free_though_a_child_has_it_open() {
    let home = tempfile::tempdir().unwrap();
    let store = Directory::new(home.path());
    let lock = store.native_lock().await.unwrap().expect("a lock of its own");
    let is_base = |entry: &fs::DirEntry| fs::read_link(entry.path()).is_ok_and(|to| to.as_path() == home.path());
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten().find(is_base).expect("the lock");
    let number = open.file_name().to_str().unwrap().parse().unwrap();
    // SAFETY: the descriptor stays open until the lock is released, which is later than this.
    let childs = unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned().unwrap();
    lock.release(true).await;
    store.native_lock().await.unwrap().expect("free again").release(true).await;
    drop(childs);
}

/// Names of temporaries are unpredictable, so nothing can be planted in their place.
#[tokio::test(flavor = "multi_thread")]
async fn two_stores_of_one_process_share_no_temporary() {
    let home = tempfile::tempdir().unwrap();
    let stores: Vec<Arc<Directory>> = (0..4).map(|_| Arc::new(Directory::new(home.path()))).collect();
    let mut running = tokio::task::JoinSet::new();
    for i in 0..200_u64 {
        let store = Arc::clone(&stores[i as usize % stores.len()]);
        running.spawn(async move { store.put_new(&path(&format!("a/{i}")), Random(i).bytes(5000).into()).await });
    }
    assert!(running.join_all().await.into_iter().all(|put| put.is_ok_and(|put| put == Put::Created)));
    for i in 0..200_u64 {
        assert_eq!(
            fs::read(home.path().join(format!("a/{i}"))).unwrap(),
            Random(i).bytes(5000),
            "no bodies were mixed"
        );
    }
}

/// A directory mounted from elsewhere with rclone, unmounted on drop.
struct Share {
    daemon: std::process::Child,
    home: tempfile::TempDir,
}

impl Share {
    fn mount() -> Option<Self> {
        let rclone = program("rclone")?;
        program("fusermount3")?;
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("files")).unwrap();
        fs::create_dir(home.path().join("share")).unwrap();
        let mut command = Command::new(rclone);
        command.arg("mount").arg(home.path().join("files")).arg(home.path().join("share"));
        command.args(["--config", "/dev/null", "--vfs-cache-mode", "writes", "--dir-cache-time", "0s"]);
        command.arg("--cache-dir").arg(home.path().join("cache")).stderr(std::process::Stdio::null());
        let share = Self { daemon: command.spawn().unwrap(), home };
        let is_mounted = || crate::support::mounting::is_mounted(&share.home.path().join("share"));
        for _ in 0..100 {
            if is_mounted() {
                return Some(share);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        None
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.home.path().join("share")).status();
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// On a network share, the driver relies neither on a lock of this machine alone nor on exclusive creation.
#[tokio::test(flavor = "multi_thread")]
async fn a_share_is_told_from_a_disk() {
    let Some(share) = Share::mount() else { return skipped("needs rclone, fusermount3 and /dev/fuse") };
    let store = Directory::new(share.home.path().join("share"));
    assert!(store.native_lock().await.unwrap().is_none(), "a lock object must do");
    assert_eq!(store.exclusive(), Exclusive::CheckThenWrite);
    let (at, one, two) = (path("blocks/1f/1f3a"), Random(1).bytes(70_000), Random(2).bytes(70_000));
    assert_eq!(store.put_new(&at, one.clone().into()).await.unwrap(), Put::Created);
    assert_eq!(store.put_new(&at, two.clone().into()).await.unwrap(), Put::Exists);
    assert_eq!(store.get(&at, 1 << 20).await.unwrap(), one);
    assert_eq!(store.swap(&path("os.head"), None, one.clone().into()).await.unwrap(), Swap::Done);
    assert_eq!(store.swap(&path("os.head"), Some(&one), two.clone().into()).await.unwrap(), Swap::Done);
    assert_eq!(store.get(&path("os.head"), 1 << 20).await.unwrap(), two);
    let store: Arc<dyn Store> = Arc::new(store);
    let host: Arc<dyn Host> = Arc::new(ThisHost);
    let lock = hfl::store::lock::lock(&store, &host).await.unwrap();
    assert!(share.home.path().join("share/publish.lock").is_file());
    lock.release(true).await;
    store.sweep().await.unwrap();
}
