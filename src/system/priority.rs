//! Priority of this process: behind everything else.

use std::io;

/// Lowers the priority of this thread and those that it starts: nice 19, and the idle class of I/O.
///
/// # Errors
/// The system refuses.
pub fn background() -> io::Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    const THIS_THREAD: libc::c_int = 0;
    const CLASS_IDLE: libc::c_int = 3 << 13;
    rustix::process::nice(19)?;
    // SAFETY: the call takes numbers only.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, THIS_THREAD, CLASS_IDLE) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
