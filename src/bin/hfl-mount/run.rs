//! From the arguments to a mount, and to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hfl::mount::disk::DiskStore;
use hfl::mount::metrics;
use hfl::mount::mounted::{Mount, Mounted};
use hfl::mount::network::{Mode, Pace};
use hfl::mount::notice::Observer;
use hfl::mount::point::MountPoint;
use hfl::mount::sources::{Readable, Reading};
use hfl::mount::status::Status;
use hfl::read::Opened;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Args;
use crate::daemon::Daemon;
use crate::failure::{Failure, LOCAL};
use crate::log::{Level, Log};
use crate::notify;
use crate::opening::{check_seen, home, open, sources, trust};

/// How long blocks that were just fetched may take to reach the disk cache at the end.
const SETTLE: Duration = Duration::from_secs(5);
/// The most that is read ahead of a stream, in bytes, and its part of the memory for decoded blocks.
const READAHEAD_MAX_BYTES: u64 = 16 << 20;
const READAHEAD_PART: u64 = 2;

/// Mounts, and returns when the mount has ended.
pub fn run(args: &Args, daemon: &mut Daemon) -> Result<(), Failure> {
    let level = if args.quiet { Level::Quiet } else { Level::Normal.max(verbosity(args)) };
    let log = Arc::new(Log::new(level));
    let trust = trust(args)?;
    let point = MountPoint::check(&args.mountpoint)?;
    let runtime = runtime()?;
    let mut sources = sources(args)?;
    let image = &args.sources[0].image;
    let opened = runtime.block_on(open(args, &sources, &trust, &log))?;
    check_seen(&opened, &trust, &mut sources, &log)?;

    let observer: Arc<dyn Observer> = Arc::clone(&log) as _;
    let disk = disk(args, &observer, &log);
    let memory = usize::try_from(args.memory).unwrap_or(usize::MAX);
    let parallel = !args.one_at_a_time;
    let reading =
        Reading { memory_bytes: memory, disk: disk.clone(), parallel, mode: args.mode(), pace: Pace::default() };
    let readable = sources.image(&opened, reading, &observer);
    if parallel {
        runtime.spawn(Readable::probe(Arc::clone(&readable.network), Arc::clone(&opened.index)));
    }
    let status = Arc::new(status(args, &opened, &readable, disk.clone()));
    let mount = Mount {
        name: image.clone(),
        created: opened.row.created,
        origin: args.sources[0].to_string(),
        image: Arc::new(readable.image),
        status: Arc::clone(&status),
        readahead_bytes: if parallel { READAHEAD_MAX_BYTES.min(args.memory / READAHEAD_PART) } else { 0 },
    };
    // Signals that come while the kernel mounts must not leave a mount behind.
    let signals = runtime.block_on(async { Signals::new() })?;
    let mounted = mount.mount(point, runtime.handle(), observer)?;
    let announcement = announcement(&opened, &mounted, args);
    log.say(&announcement);
    if let Some(address) = args.metrics {
        match runtime.block_on(metrics::serve(address, status)) {
            Ok(address) => log.say(format_args!("metrics on http://{address}/metrics")),
            Err(e) => log.warn(format_args!("--metrics {address}: {e}; nobody is shown any")),
        }
    }
    notify::ready(&announcement);
    let log_file = args.log.as_deref().and_then(|path| std::path::absolute(path).ok());
    daemon.ready(log_file.as_deref());
    runtime.block_on(wait(mounted, signals, disk, &log))?;
    runtime.shutdown_background();
    Ok(())
}

fn verbosity(args: &Args) -> Level {
    if args.verbose { Level::Verbose } else { Level::Normal }
}

fn runtime() -> Result<Runtime, Failure> {
    let cores = std::thread::available_parallelism().map_or(2, |n| n.get());
    let built = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(2, 4))
        // Decoding, and files that may block: more would only hold memory.
        .max_blocking_threads(2 * cores + 2)
        .thread_name("hfl")
        .enable_all()
        .build();
    built.map_err(|e| Failure::new(LOCAL, format!("cannot start threads: {e}")))
}

/// The disk cache, unless it is not wanted or cannot be had.
fn disk(args: &Args, observer: &Arc<dyn Observer>, log: &Log) -> Option<Arc<DiskStore>> {
    if args.no_cache {
        return None;
    }
    let default = || home("XDG_CACHE_HOME", ".cache", "/var/cache/hfl");
    let directory = args.cache.clone().or_else(default)?;
    match DiskStore::open(&directory, args.cache_size, Arc::clone(observer)) {
        Ok(store) => Some(store),
        Err(e) => {
            log.warn(format_args!("cache {}: {e}; nothing is cached on disk", directory.display()));
            None
        }
    }
}

fn status(args: &Args, opened: &Opened, readable: &Readable, disk: Option<Arc<DiskStore>>) -> Status {
    Status {
        image: opened.head.image.clone(),
        version: opened.row.version,
        created: opened.row.created,
        size: opened.row.size,
        mode: if args.mode() == Mode::Hard { "hard" } else { "soft" },
        since: Instant::now(),
        reads: Arc::default(),
        cache: Arc::clone(&readable.cache),
        disk,
        network: Arc::clone(&readable.network),
    }
}

fn announcement(opened: &Opened, mounted: &Mounted, args: &Args) -> String {
    let file = mounted.point().path().join(opened.head.image.as_str());
    let (version, size) = (opened.row.version, opened.row.size);
    let sources: Vec<String> = args.sources.iter().map(ToString::to_string).collect();
    format!("{}: version {version}, {size} bytes, from {}", file.display(), sources.join(" "))
}

/// The signals that end a mount.
struct Signals([tokio::signal::unix::Signal; 3]);

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|e| Failure::new(LOCAL, format!("cannot handle signals: {e}")));
        Ok(Self([listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?, listen(SignalKind::hangup())?]))
    }

    async fn any(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Returns when somebody has unmounted, or after a signal has had it unmounted.
async fn wait(
    mut mounted: Mounted,
    mut signals: Signals,
    disk: Option<Arc<DiskStore>>,
    log: &Log,
) -> Result<(), Failure> {
    tokio::select! {
        () = mounted.ended() => {}
        () = signals.any() => {
            let point = mounted.point().clone();
            let failed = |e| Failure::new(LOCAL, format!("cannot unmount {}: {e}", point.path().display()));
            mounted.end().await.map_err(failed)?;
        }
    }
    notify::stopping();
    if let Some(disk) = disk {
        disk.settle(SETTLE).await;
        if disk.heals() > 0 {
            log.say(format_args!("{} bad files of the cache were dropped", disk.heals()));
        }
    }
    Ok(())
}
