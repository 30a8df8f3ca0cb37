//! Daemonizing once the mount works, and other setup before the first thread starts.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use hfl::ErrorKind;

/// Connection to the parent process, which waits for the outcome.
#[derive(Debug)]
pub struct Daemon(Option<UnixStream>);

impl Daemon {
    /// Stays in the foreground.
    pub fn none() -> Self {
        Self(None)
    }

    /// Forks. The parent waits until the child is ready or has failed, and exits with the child's exit code; only the
    /// child returns. No thread may run yet.
    ///
    /// # Errors
    /// When no process can be created.
    pub fn fork() -> std::io::Result<Self> {
        let (parent, child) = UnixStream::pair()?;
        // SAFETY: the process has one thread, so the child is a complete copy of it.
        match unsafe { libc::fork() } {
            -1 => Err(std::io::Error::last_os_error()),
            0 => {
                drop(parent);
                Ok(Self(Some(child)))
            }
            _ => {
                drop(child);
                std::process::exit(wait(parent))
            }
        }
    }

    /// Reports to the parent that the mount works, and detaches from the terminal.
    pub fn ready(&mut self, log: Option<&Path>) {
        let Some(mut parent) = self.0.take() else { return };
        // Not before the mount: the kernel lets only the process group of an automounter look at the mount point meanwhile
        // ("oz mode" in autofs). A child is no process group leader, so this cannot fail.
        let _ = rustix::process::setsid();
        let _ = std::env::set_current_dir("/");
        let out = log.and_then(|path| OpenOptions::new().create(true).append(true).open(path).ok());
        if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
            let _ = rustix::stdio::dup2_stdin(&null);
            let _ = rustix::stdio::dup2_stdout(&null);
            let _ = rustix::stdio::dup2_stderr(out.as_ref().unwrap_or(&null));
        }
        let _ = parent.write_all(&[0]);
    }

    /// Reports the exit code to the parent, if that still waits.
    pub fn ended(&mut self, code: u8) {
        if let Some(mut parent) = self.0.take() {
            let _ = parent.write_all(&[code]);
        }
    }
}

/// The exit code from the child; a child that died without one has failed.
fn wait(mut child: UnixStream) -> i32 {
    let mut code = [ErrorKind::Local.exit_code()];
    let _ = child.read_exact(&mut code);
    i32::from(code[0])
}

/// Makes all threads share one heap and return free memory to the system, so that the process holds little more than
/// its caches. Blocks come from that heap, too. A separate mapping for each makes sequential reads a fifth slower, as
/// the kernel must supply fresh pages; a second heap holds 10 MB more.
pub fn limit_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: these calls only set parameters of the allocator.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 8 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 20);
    }
}
