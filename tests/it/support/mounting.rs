//! Starts clients and web servers for tests, and always stops them.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::IntoResponse as _;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::through::through;

/// Whether a test that needs a real mount cannot run here. Prints the reason.
pub fn cannot_mount() -> bool {
    let why = if !rustix::process::geteuid().is_root() {
        "not root"
    } else if fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_err() {
        "no /dev/fuse"
    } else {
        return false;
    };
    println!("skipped: {why}");
    true
}

/// The command `hfl-mount`, with caches and state in `home`.
pub fn client(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hfl-mount"));
    let own = std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"HFL_MOUNT_"));
    for (name, _) in own {
        command.env_remove(name);
    }
    command.env("XDG_CACHE_HOME", home.join("cache")).env("XDG_STATE_HOME", home.join("state"));
    command.env("HFL_CONFIG", home.join("config"));
    command
}

/// Runs `hfl-mount` to its end; it must not mount anything.
pub fn run(home: &Path, arguments: &[&str]) -> Output {
    client(home).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// A mount, ended on drop.
pub struct Mounted {
    child: Child,
    point: TempDir,
    image: String,
    messages: Option<std::thread::JoinHandle<String>>,
}

impl Mounted {
    /// Mounts `image` in the foreground. Panics with the client's messages on failure.
    pub fn new(home: &Path, arguments: &[&str], sources: &[&str], image: &str) -> Self {
        let sources: Vec<String> = sources.iter().map(|base| format!("{base}/{image}")).collect();
        Self::named(home, arguments, &sources, image)
    }

    /// Like [`Mounted::new`], with sources as given on a command line.
    pub fn named(home: &Path, arguments: &[&str], sources: &[String], image: &str) -> Self {
        Self::with_environment::<&str>(home, &[], arguments, sources, image)
    }

    /// Like [`Mounted::named`], with environment variables.
    pub fn with_environment<V: AsRef<std::ffi::OsStr>>(
        home: &Path,
        environment: &[(&str, V)],
        arguments: &[&str],
        sources: &[String],
        image: &str,
    ) -> Self {
        let mut command = client(home);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        Self::started(command, arguments, sources, image)
    }

    /// Like [`Mounted::named`], as the last arguments of another program, which becomes `hfl-mount`.
    pub fn wrapped(mut by: Command, home: &Path, arguments: &[&str], sources: &[String], image: &str) -> Self {
        through(&mut by, &client(home));
        Self::started(by, arguments, sources, image)
    }

    fn started(mut command: Command, arguments: &[&str], sources: &[String], image: &str) -> Self {
        let point = tempfile::tempdir().unwrap();
        command.arg("--foreground").args(arguments).args(sources).arg(point.path());
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut first = String::new();
        while !first.contains(": version ") {
            let before = first.len();
            stderr.read_line(&mut first).unwrap();
            if first.len() == before {
                let _ = child.wait();
                panic!("not mounted: {first}");
            }
        }
        let messages = Some(std::thread::spawn(move || {
            let _ = stderr.read_to_string(&mut first);
            first
        }));
        Self { child, point, image: image.into(), messages }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn file(&self) -> PathBuf {
        self.point.path().join(&self.image)
    }

    pub fn point(&self) -> &Path {
        self.point.path()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the process to end by itself.
    pub fn status(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "the client does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn is_mounted(&self) -> bool {
        is_mounted(self.point.path())
    }

    /// Ends the mount and returns its messages.
    pub fn end(mut self) -> String {
        self.signal(rustix::process::Signal::TERM);
        assert!(self.status().success());
        self.messages.take().unwrap().join().unwrap()
    }
}

pub fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().any(|line| line.split(' ').nth(1) == path.to_str())
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.is_mounted() {
            let _ = Command::new("umount").arg("-l").arg(self.point.path()).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A listener on a free port, served by `runtime`. Can be called inside another runtime.
pub fn listener(runtime: &Runtime) -> tokio::net::TcpListener {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let _inside = runtime.enter();
    tokio::net::TcpListener::from_std(listener).unwrap()
}

/// A web server for one directory.
pub struct WebServer {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl WebServer {
    pub fn new(directory: &Path) -> Self {
        Self::delayed(directory, |_| Duration::ZERO)
    }

    /// A server that never answers requests for paths that end with `stalled`.
    pub fn stalling(directory: &Path, stalled: &str) -> Self {
        let stalled = stalled.to_owned();
        let for_ever = Duration::from_secs(86_400);
        Self::delayed(directory, move |path| if path.ends_with(&stalled) { for_ever } else { Duration::ZERO })
    }

    /// A server that never answers requests for paths that begin with `stalled`.
    pub fn stalling_below(directory: &Path, stalled: &str) -> Self {
        let stalled = stalled.to_owned();
        let for_ever = Duration::from_secs(86_400);
        Self::delayed(directory, move |path| if path.starts_with(&stalled) { for_ever } else { Duration::ZERO })
    }

    /// A server that delays every answer.
    pub fn delaying(directory: &Path, delay: Duration) -> Self {
        Self::delayed(directory, move |_| delay)
    }

    /// A server that records block requests and delays every answer.
    pub fn noting(directory: &Path, delay: Duration) -> (Self, Arc<Asked>) {
        let asked = Arc::new(Asked::default());
        let its = Arc::clone(&asked);
        let note = move |path: &str| {
            if let Some(block) = path.strip_prefix("/blocks/").and_then(|path| path.get(3..)) {
                its.0.lock().unwrap().push(block.to_owned());
            }
            delay
        };
        (Self::delayed(directory, note), asked)
    }

    /// A server that answers with the status that `fails` gives for a path, if it gives one.
    pub fn failing(directory: &Path, fails: impl Fn(&str) -> Option<u16> + Clone + Send + Sync + 'static) -> Self {
        let fail = axum::middleware::from_fn(move |request: Request, next: Next| {
            let status = fails(request.uri().path());
            async move {
                match status {
                    Some(status) => axum::http::StatusCode::from_u16(status).unwrap().into_response(),
                    None => next.run(request).await,
                }
            }
        });
        Self::serving(directory, |files| files.layer(fail))
    }

    /// A server that delays the answer for a path by this time.
    pub fn delayed(directory: &Path, delay: impl Fn(&str) -> Duration + Clone + Send + Sync + 'static) -> Self {
        let wait = axum::middleware::from_fn(move |request: Request, next: Next| {
            let delay = delay(request.uri().path());
            async move {
                tokio::time::sleep(delay).await;
                next.run(request).await
            }
        });
        Self::serving(directory, |files| files.layer(wait))
    }

    fn serving(directory: &Path, layer: impl FnOnce(axum::Router) -> axum::Router) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = listener(&runtime);
        let address = listener.local_addr().unwrap();
        let files = layer(axum::Router::new().fallback_service(tower_http::services::ServeDir::new(directory)));
        runtime.spawn(async move { axum::serve(listener, files).await });
        Self { address, runtime: Some(runtime) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL, without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Names of the blocks requested from a server.
#[derive(Default)]
pub struct Asked(Mutex<Vec<String>>);

impl Asked {
    /// All requests since the last call, in order.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Output of the status command for a mount.
pub fn status(home: &Path, mounted: &Mounted) -> serde_json::Value {
    let output = run(home, &["status", "--json", mounted.point().to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Base URL of a server that does not exist.
pub fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}
