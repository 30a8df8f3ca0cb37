//! The private directory of a store: bodies in transfer, and the socket of the shared connection.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::system::child;

/// A socket path of up to 103 bytes is portable; ssh temporarily appends 17 bytes while it creates the socket.
const DIRECTORY_MAX_BYTES: usize = 103 - 17 - "/hfl-XXXXXX/ssh".len();

/// A directory accessible only to this user; removed on drop.
#[derive(Debug)]
pub(super) struct Private {
    /// Empty directory trees, reused: creating and removing 256 directories takes longer than sending a batch.
    trees: Mutex<Vec<TempDir>>,
    directory: TempDir,
    host: String,
}

impl Private {
    pub(super) fn new(host: String) -> io::Result<Self> {
        let usual = std::env::temp_dir();
        let short = usual.as_os_str().len() <= DIRECTORY_MAX_BYTES;
        let above = if short { usual.as_path() } else { Path::new("/tmp") };
        let directory = tempfile::Builder::new().prefix("hfl-").tempdir_in(above)?;
        Ok(Self { trees: Mutex::default(), directory, host })
    }

    /// Path of ssh's control socket for the shared connection.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join("ssh")
    }

    /// Creates an empty directory.
    pub(super) fn empty(&self) -> io::Result<TempDir> {
        tempfile::Builder::new().prefix("batch-").tempdir_in(self.directory.path())
    }

    /// A directory tree without files, for the bodies of one batch.
    pub(super) fn tree(&self) -> io::Result<TempDir> {
        let kept = self.trees.lock().ok().and_then(|mut trees| trees.pop());
        kept.map_or_else(|| self.empty(), Ok)
    }

    /// Keeps such a tree for reuse once its files are removed.
    pub(super) fn keep(&self, tree: TempDir) {
        if let Ok(mut trees) = self.trees.lock() {
            trees.push(tree);
        }
    }
}

impl Drop for Private {
    /// Ends the shared connection, which would otherwise end after 30 seconds.
    fn drop(&mut self) {
        let socket = self.socket();
        if !socket.exists() {
            return;
        }
        let mut ssh = child::command("ssh");
        ssh.arg("-S").arg(&socket).args(["-O", "exit", &self.host]);
        let Ok(mut child) = ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
            return;
        };
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(1) {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}
