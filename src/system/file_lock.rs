//! An exclusive lock on a file, which is not waited for for ever: whoever can read a file can hold its lock.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// How long another holder may take, and how often it is looked.
const WAIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// Locks `file` until it is closed. Blocks the thread for at most 5 s.
///
/// # Errors
/// A lock that is still held then; a file system without locks.
pub fn lock(file: &File) -> io::Result<()> {
    let started = Instant::now();
    while let Err(e) = flock(file, FlockOperation::NonBlockingLockExclusive) {
        if e != Errno::WOULDBLOCK || started.elapsed() > WAIT {
            return Err(e.into());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
