//! An exclusive file lock with a timeout, as any process that can read the file can hold its lock.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// How long to wait for another holder, and the polling interval.
const WAIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// Locks `file` until it is closed. Blocks the thread for at most 5 s.
///
/// # Errors
/// The lock is still held then, or the file system does not support locks.
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
