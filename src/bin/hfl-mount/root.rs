//! `--root`: setup of a process that provides the root file system.
//!
//! It must not depend on what it provides. So its memory stays in RAM, and the kernel does not ask it to write back to
//! free memory. The out-of-memory killer and the shutdown spare it, no signal but SIGKILL ends it, and it keeps no
//! terminal. Sources: "Storage Daemons for the Root File System" (systemd.io), mlockall(2), PR_SET_IO_FLUSHER(2const),
//! proc_pid_oom_score_adj(5).
//!
//! If the system refuses one of these, a warning is printed, and the rest is done.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use rustix::mm::MlockAllFlags;

use crate::helper;

/// The first byte tells systemd not to kill the process at shutdown; the rest is how the program was called.
const NAME: &str = "@hfl-mount";
const HELPER_NAME: &str = "@mount.hfl";
/// Stack size of threads: only used pages are locked, but address space is limited.
const STACK_BYTES: &str = "1048576";

fn warn(what: &str, why: impl Display) {
    eprintln!("hfl-mount: warning: --root: cannot {what}: {why}");
}

/// Restarts this program under a name that begins with `@`, unless it has one. Overwriting the name in place would
/// change memory that may be referenced elsewhere. No thread may run yet.
pub fn call_itself() {
    let mut words = std::env::args_os();
    if words.next().is_some_and(|name| name.as_bytes().first() == Some(&b'@')) {
        // The kernel took the name of the executed file: `exe`.
        let _ = rustix::thread::set_name(c"hfl-mount");
        return;
    }
    let mut again = Command::new("/proc/self/exe");
    again.arg0(OsStr::new(if helper::is_called() { HELPER_NAME } else { NAME })).args(words);
    if std::env::var_os("RUST_MIN_STACK").is_none() {
        again.env("RUST_MIN_STACK", STACK_BYTES);
    }
    warn("take a process name that systemd does not kill", again.exec());
}

/// Locks the memory and avoids the out-of-memory killer. Call it in the process that stays, before its first thread:
/// all threads inherit it.
pub fn hold() {
    if let Err(e) = lock_memory() {
        warn("lock its memory", e);
    }
    if let Err(e) = std::fs::write("/proc/self/oom_score_adj", "-1000") {
        warn("exempt itself from the out-of-memory killer", e);
    }
    if let Err(e) = rustix::process::configure_io_flusher_behavior(true) {
        warn("exempt itself from writeback when memory is low", e);
    }
}

/// Locks all present pages in RAM, above all the program. Later pages stay from their first use on. Locking whole
/// stacks and heaps in advance would only take memory from other processes, and a zero page needs no file system.
fn lock_memory() -> rustix::io::Result<()> {
    rustix::mm::mlockall(MlockAllFlags::CURRENT)?;
    rustix::mm::mlockall(MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
}

/// Signals left unchanged: two that cannot be ignored, those by which the standard library detects stack overflows, and
/// one that is ignored by default and decides what becomes of child processes.
const NOT_IGNORED: [i32; 5] = [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGBUS, libc::SIGCHLD];

/// Ignores every signal that would end or stop the process. A real fault in the program still ends it: the kernel
/// overrides the setting. Otherwise it ends when it is unmounted, or by SIGKILL.
pub fn ignore_signals() {
    // The C library reserves some signals between the ordinary and the real-time ones.
    let ordinary = 1..=libc::SIGSYS;
    let for_programs = libc::SIGRTMIN()..=libc::SIGRTMAX();
    for signal in ordinary.chain(for_programs).filter(|signal| !NOT_IGNORED.contains(signal)) {
        // SAFETY: no handler is installed, so nothing runs in a signal's context.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Leaves the directory it was started in, its session, and any terminal; further messages go to `log`.
pub fn let_go(log: Option<&Path>) {
    let _ = std::env::set_current_dir("/");
    // A process group leader cannot leave its session; its terminal is released all the same.
    let _ = rustix::process::setsid();
    let Ok(null) = File::options().read(true).write(true).open("/dev/null") else { return };
    let log = log.and_then(|path| OpenOptions::new().create(true).append(true).open(path).ok());
    if rustix::termios::isatty(std::io::stdin().as_fd()) {
        let _ = rustix::stdio::dup2_stdin(&null);
    }
    if rustix::termios::isatty(std::io::stdout().as_fd()) {
        let _ = rustix::stdio::dup2_stdout(&null);
    }
    if rustix::termios::isatty(std::io::stderr().as_fd()) || log.is_some() {
        let _ = rustix::stdio::dup2_stderr(log.as_ref().unwrap_or(&null));
    }
}
