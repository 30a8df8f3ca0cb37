//! The private directory of a store: the bodies that are under way, and the socket of the shared connection.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The longest path of a socket everywhere is 103 bytes; ssh adds 17 to it while it makes one.
const DIRECTORY_MAX_BYTES: usize = 103 - 17 - "/hfl-XXXXXX/ssh".len();

/// A directory that nobody else can enter, removed with this.
#[derive(Debug)]
pub(super) struct Private {
    directory: TempDir,
    host: String,
}

impl Private {
    pub(super) fn new(host: String) -> io::Result<Self> {
        let usual = std::env::temp_dir();
        let short = usual.as_os_str().len() <= DIRECTORY_MAX_BYTES;
        let above = if short { usual.as_path() } else { Path::new("/tmp") };
        Ok(Self { directory: tempfile::Builder::new().prefix("hfl-").tempdir_in(above)?, host })
    }

    /// Where ssh makes the socket of the connection that all share.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join("ssh")
    }

    /// A new empty directory for one batch.
    pub(super) fn batch(&self) -> io::Result<TempDir> {
        tempfile::Builder::new().prefix("batch-").tempdir_in(self.directory.path())
    }
}

impl Drop for Private {
    /// Ends the shared connection; it would end by itself 30 seconds later.
    fn drop(&mut self) {
        let socket = self.socket();
        if !socket.exists() {
            return;
        }
        let mut ssh = Command::new("ssh");
        ssh.arg("-S").arg(&socket).args(["-O", "exit", &self.host]);
        let Ok(mut child) = ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() else { return };
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
