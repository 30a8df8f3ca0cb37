//! `--root`: what becomes of a process that a root file system hangs on.
//!
//! It must not need what it provides. So its memory stays in RAM; the kernel does not ask it to write in order to get it
//! more; it is not killed for want of memory, nor at shutdown together with everybody else; no signal but SIGKILL
//! ends it; and it holds on to no terminal. Sources: "Storage Daemons for the Root File System" (systemd.io),
//! mlockall(2), PR_SET_IO_FLUSHER(2const), proc_pid_oom_score_adj(5).
//!
//! Where the system refuses one of these, a warning says so, and the rest is done.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use rustix::mm::MlockAllFlags;

/// By its first byte, systemd knows whom it must not kill at shutdown.
const NAME: &str = "@hfl-mount";
/// Threads come with so much stack: what is locked is only what they use, but an address space is not for nothing.
const STACK_BYTES: &str = "1048576";

fn warn(what: &str, why: impl Display) {
    eprintln!("hfl-mount: warning: --root: cannot {what}: {why}");
}

/// Starts this program again under a name that begins with `@`, unless it has one. The name is the whole of the change:
/// overwriting it in place would mean to write into memory that others may refer to. No thread may run yet.
pub fn call_itself() {
    let mut words = std::env::args_os();
    if words.next().is_some_and(|name| name.as_bytes().first() == Some(&b'@')) {
        // The kernel took the name of the file that it was told to start: `exe`.
        let _ = rustix::thread::set_name(c"hfl-mount");
        return;
    }
    let mut again = Command::new("/proc/self/exe");
    again.arg0(OsStr::new(NAME)).args(words);
    if std::env::var_os("RUST_MIN_STACK").is_none() {
        again.env("RUST_MIN_STACK", STACK_BYTES);
    }
    warn("take a name that systemd spares", again.exec());
}

/// Holds on to its memory, and out of the killer's reach. Call it in the process that stays, before its first thread: all
/// of them inherit it.
pub fn hold() {
    if let Err(e) = lock_memory() {
        warn("lock its memory", e);
    }
    if let Err(e) = std::fs::write("/proc/self/oom_score_adj", "-1000") {
        warn("have itself spared when memory runs out", e);
    }
    if let Err(e) = rustix::process::configure_io_flusher_behavior(true) {
        warn("keep the kernel from writing back for its sake", e);
    }
}

/// Everything that is here now is brought into RAM and stays there, the program above all. What comes later stays from
/// its first use on: whole stacks and heaps in advance would only take memory from those who need it, and getting a page
/// of zeros waits for no file system.
fn lock_memory() -> rustix::io::Result<()> {
    rustix::mm::mlockall(MlockAllFlags::CURRENT)?;
    rustix::mm::mlockall(MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
}

/// The signals that stay as they are: two that cannot be ignored, those by which the standard library knows an overflow of
/// a stack, and one whose default is to be ignored and which decides what becomes of children.
const NOT_IGNORED: [i32; 5] = [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGBUS, libc::SIGCHLD];

/// Ignores every signal that would end or stop it. A real fault in the program ends it all the same: the kernel does not
/// ask then. It ends when it is unmounted, or by SIGKILL.
pub fn ignore_signals() {
    // Between the ordinary ones and the first for programs, the C library has some of its own.
    let ordinary = 1..=libc::SIGSYS;
    let for_programs = libc::SIGRTMIN()..=libc::SIGRTMAX();
    for signal in ordinary.chain(for_programs).filter(|signal| !NOT_IGNORED.contains(signal)) {
        // SAFETY: no handler is installed, so nothing runs in a signal's context.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Lets go of the directory it was started in, of its session, and of any terminal; what it still has to say goes to
/// `log`.
pub fn let_go(log: Option<&Path>) {
    let _ = std::env::set_current_dir("/");
    // Whoever leads a group of processes cannot leave its session; its terminal goes all the same.
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
