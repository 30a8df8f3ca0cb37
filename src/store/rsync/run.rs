//! Runs one rsync: names in, output lines out, everything bounded in bytes and time.

use std::ffi::OsString;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::failure::{Failure, Hint};
use super::host::Host;
use crate::store::StoreErrorKind;
use crate::system::child;

/// Time limit of a run, plus the time for the bytes it transfers.
const DEADLINE: Duration = Duration::from_secs(60);
/// Minimum throughput, for the deadline.
const SLOWEST_BYTES_PER_SECOND: u64 = 16 << 10;
/// Maximum length of an output line, in bytes: ample for a line of a listing.
const LINE_MAX_BYTES: u64 = 4096;
/// Maximum amount of error output kept, in bytes; the last part is kept.
const STDERR_MAX_BYTES: usize = 64 << 10;
/// Number and interval of retries on a host that allows one rsync at a time: half a minute in all.
const BUSY_TRIES: u32 = 60;
const BUSY_WAIT: Duration = Duration::from_millis(500);
/// Environment variables that rsync must not inherit.
const VARIABLES: [&str; 8] = [
    "RSYNC_OLD_ARGS",
    "RSYNC_PROTECT_ARGS",
    "RSYNC_PARTIAL_DIR",
    "RSYNC_ICONV",
    "RSYNC_CONNECT_PROG",
    "RSYNC_PASSWORD",
    "RSYNC_CHECKSUM_LIST",
    "RSYNC_MAX_ALLOC",
];

/// The parameters of one rsync run.
#[derive(Debug)]
pub(super) struct Run {
    /// Options, source and destination.
    pub(super) arguments: Vec<OsString>,
    /// Contents of its standard input.
    pub(super) input: Vec<u8>,
    /// Maximum number of bytes transferred, for the deadline.
    pub(super) bytes: u64,
    /// Maximum size of a file it may write locally, in bytes.
    pub(super) file_max_bytes: u64,
}

/// Called with each output line, without its line feed.
pub(super) type OnLine<'a> = &'a mut (dyn FnMut(&[u8]) -> Result<(), Failure> + Send);

impl Run {
    /// A run with these options for these names.
    pub(super) fn about<'a>(options: &[&str], names: impl Iterator<Item = &'a str>) -> Self {
        let fixed = ["--files-from=-", "--from0", "--no-h", "--no-motd", "--timeout=30"];
        let arguments = options.iter().chain(&fixed).map(OsString::from).collect();
        let input = names.flat_map(|name| name.bytes().chain([0])).collect();
        Self { arguments, input, bytes: 0, file_max_bytes: 0 }
    }

    /// Runs rsync; retries while the host is busy with the only rsync it allows.
    pub(super) async fn run(&self, host: &Host, on_line: OnLine<'_>) -> Result<(), Failure> {
        let mut tries = 0;
        loop {
            let alone = host.one_by_one.load(Ordering::Relaxed);
            let only = if alone { Some(host.only.lock().await) } else { None };
            match self.once(host, on_line).await {
                Err(failure) if failure.hint == Some(Hint::Busy) && tries < BUSY_TRIES => {
                    host.one_by_one.store(true, Ordering::Relaxed);
                    tries += 1;
                    drop(only);
                    sleep(BUSY_WAIT).await;
                }
                done => return done,
            }
        }
    }

    async fn once(&self, host: &Host, on_line: OnLine<'_>) -> Result<(), Failure> {
        let deadline = DEADLINE + Duration::from_secs(self.bytes / SLOWEST_BYTES_PER_SECOND);
        let done = timeout(deadline, self.to_the_end(host, on_line)).await;
        done.unwrap_or_else(|_| {
            let why = format!("rsync did not come to an end within {} s", deadline.as_secs());
            Err(Failure::new(StoreErrorKind::Unreachable, why))
        })
    }

    fn spawn(&self, host: &Host) -> Result<Child, Failure> {
        let mut command = Command::from(child::command("rsync"));
        command.args(&self.arguments).env("RSYNC_RSH", &host.shell).env("LC_ALL", "C");
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().map_err(|e| local("rsync cannot be started", &e))?;
        // A server that sends more than it announced must not fill the local disk.
        if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            let limit = Some(self.file_max_bytes.max(1 << 20));
            let _ = rustix::process::prlimit(Some(pid), Resource::Fsize, Rlimit { current: limit, maximum: limit });
        }
        Ok(child)
    }

    async fn to_the_end(&self, host: &Host, on_line: OnLine<'_>) -> Result<(), Failure> {
        let mut child = self.spawn(host)?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Failure::new(StoreErrorKind::Other, "rsync has no pipes"));
        };
        let mut words = Vec::new();
        let status = {
            let write = async move {
                // If rsync has already ended, its exit code gives the reason.
                let _ = stdin.write_all(&self.input).await;
                Ok(())
            };
            let main = async {
                tokio::try_join!(write, lines(stdout, on_line))?;
                child.wait().await.map_err(|e| local("rsync", &e))
            };
            let listen = keep_last(stderr, &mut words);
            tokio::pin!(main, listen);
            tokio::select! {
                status = &mut main => {
                    // An old ssh keeps this pipe open in the persistent connection.
                    let _ = timeout(Duration::from_secs(1), listen).await;
                    status?
                }
                () = &mut listen => main.await?,
            }
        };
        if status.success() {
            return Ok(());
        }
        Err(Failure::judge(status.code(), &String::from_utf8_lossy(&words)))
    }
}

/// A local error.
pub(super) fn local(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(StoreErrorKind::Other, format!("{what}: {error}"))
}

async fn lines(output: impl AsyncRead + Unpin, on_line: OnLine<'_>) -> Result<(), Failure> {
    let mut output = BufReader::with_capacity(64 << 10, output);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limited = (&mut output).take(LINE_MAX_BYTES).read_until(b'\n', &mut line).await;
        if limited.map_err(|e| local("the output of rsync", &e))? == 0 {
            return Ok(());
        }
        if line.pop_if(|last| *last == b'\n').is_none() && line.len() as u64 >= LINE_MAX_BYTES {
            return Err(Failure::new(StoreErrorKind::Protocol, "the host sent a line without an end"));
        }
        on_line(&line)?;
    }
}

/// Reads to the end and keeps the last part.
async fn keep_last(mut from: impl AsyncRead + Unpin, kept: &mut Vec<u8>) {
    let mut part = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut part).await {
        kept.extend_from_slice(&part[..read]);
        if kept.len() > STDERR_MAX_BYTES {
            kept.drain(..STDERR_MAX_BYTES / 2);
        }
    }
}
