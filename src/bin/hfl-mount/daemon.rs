//! Going into the background once the mount works, and what else has to happen before the first thread starts.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use hfl::ErrorKind;

/// The way back to the process that the user started, which waits for the outcome.
#[derive(Debug)]
pub struct Daemon(Option<UnixStream>);

impl Daemon {
    /// Stays in the foreground.
    pub fn none() -> Self {
        Self(None)
    }

    /// Forks. The parent waits until the child is ready or has failed, and leaves with the child's exit code; only the
    /// child returns. No thread may run yet.
    ///
    /// # Errors
    /// When the system has no process to give.
    pub fn fork() -> std::io::Result<Self> {
        let (parent, child) = UnixStream::pair()?;
        // SAFETY: the process has one thread, so the child is a whole copy of it.
        match unsafe { libc::fork() } {
            -1 => Err(std::io::Error::last_os_error()),
            0 => {
                drop(parent);
                // It leads no group yet, so this cannot fail.
                let _ = rustix::process::setsid();
                Ok(Self(Some(child)))
            }
            _ => {
                drop(child);
                std::process::exit(wait(parent))
            }
        }
    }

    /// Tells the parent that the mount works, and lets go of the terminal.
    pub fn ready(&mut self, log: Option<&Path>) {
        let Some(mut parent) = self.0.take() else { return };
        let _ = std::env::set_current_dir("/");
        let out = log.and_then(|path| OpenOptions::new().create(true).append(true).open(path).ok());
        if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
            let _ = rustix::stdio::dup2_stdin(&null);
            let _ = rustix::stdio::dup2_stdout(&null);
            let _ = rustix::stdio::dup2_stderr(out.as_ref().unwrap_or(&null));
        }
        let _ = parent.write_all(&[0]);
    }

    /// Tells the parent that it did not work.
    pub fn failed(&mut self, code: u8) {
        if let Some(mut parent) = self.0.take() {
            let _ = parent.write_all(&[code]);
        }
    }
}

/// The child's verdict; a child that died without one has failed.
fn wait(mut child: UnixStream) -> i32 {
    let mut code = [ErrorKind::Local.exit_code()];
    let _ = child.read_exact(&mut code);
    i32::from(code[0])
}

/// Has all threads share one heap, whose free memory goes back to the system: what this process takes is then little
/// more than what its caches hold. Blocks come from that heap too. With a mapping for each, the kernel's work for fresh
/// pages makes sequential reads a fifth slower; with a second heap, 10 MB more are held.
pub fn limit_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: these calls only set parameters of the allocator.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 8 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 20);
    }
}
