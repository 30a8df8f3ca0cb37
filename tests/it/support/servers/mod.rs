//! Real servers for tests. Each runs on a free local port in its own directory, and is stopped by its
//! own process id. A server whose program is missing is `None`, and the test reports that it was
//! skipped.

#[cfg(feature = "webdav")]
pub mod apache;
pub mod authority;
pub mod caching;
#[cfg(feature = "webdav")]
pub mod nginx;
#[cfg(feature = "ftp")]
pub mod proftpd;
#[cfg(feature = "webdav")]
pub mod rclone;
#[cfg(feature = "s3")]
pub mod rclone_s3;
#[cfg(feature = "s3")]
pub mod s3;
#[cfg(feature = "s3")]
pub mod seaweed;
#[cfg(any(feature = "sftp", feature = "rsync"))]
pub mod sshd;
#[cfg(feature = "ftp")]
pub mod vsftpd;
pub mod web;
#[cfg(feature = "webdav")]
pub mod webdav;

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Maximum time until a server answers.
const START_WAIT: Duration = Duration::from_secs(30);

/// A program that runs until drop, including all processes that it starts.
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts `command` in the foreground with its output in `log`, and waits until `address` accepts
    /// connections.
    pub fn start(mut command: Command, log: &Path, address: SocketAddr) -> Self {
        let output = fs::File::create(log).expect("a log");
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("a log")).stderr(output).process_group(0);
        let program = command.get_program().to_string_lossy().into_owned();
        let mut daemon = Self { child: command.spawn().unwrap_or_else(|e| panic!("{program}: {e}")) };
        let started = Instant::now();
        while TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err() {
            let ended = daemon.child.try_wait().expect("a child");
            let said = || fs::read_to_string(log).unwrap_or_default();
            assert!(ended.is_none(), "{program} ended: {}", said());
            assert!(started.elapsed() < START_WAIT, "{program} does not answer: {}", said());
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// A port that is currently unused.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// The first of `count` consecutive ports that are currently unused, below the ephemeral ports of the
/// system. The ports 10,000 above them are unused too. No two callers get the same: a server may take
/// seconds to listen.
pub fn free_ports(count: u16) -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_nanos() as u64;
    let mut random = crate::support::lab::Random(clock ^ u64::from(std::process::id()));
    let mut blocks = (0..1000).map(|_| 16_000 + random.below(6_600) as u16);
    let is_free = |port: u16| !given.contains(&port) && free(port) && free(port + 10_000);
    let found = blocks.find(|&first| (first..first + count).all(is_free)).expect("free ports");
    given.extend(found..found + count);
    found
}

/// The loopback address with this port.
pub fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Path of a program: in the directory where the test script installs servers, or in the usual places.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::env::var_os("HFL_SERVERS").map(|servers| PathBuf::from(servers).join("bin"));
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let all = own.into_iter().chain(std::env::split_paths(&path)).chain(system);
    all.map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// Writes a password file for one user in the format of web servers. `None` if openssl is missing.
pub fn password_file(file: &Path, user: &str, password: &str) -> Option<()> {
    let hashed = Command::new(program("openssl")?).args(["passwd", "-apr1", password]).output().expect("openssl");
    assert!(hashed.status.success());
    let hash = String::from_utf8(hashed.stdout).expect("text");
    fs::write(file, format!("{user}:{hash}")).expect("a file of passwords");
    Some(())
}
