//! From the arguments to a mount, and to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hfl::client::image::Image;
use hfl::client::notice::Observer;
use hfl::client::prefetch::UNDER_WAY_PART;
use hfl::client::serve::metrics;
use hfl::client::serve::mounted::{Mount, Mounted};
use hfl::client::serve::point::MountPoint;
use hfl::client::source::disk::DiskStore;
use hfl::client::source::network::{Mode, Pace};
use hfl::client::source::{Readable, Reading, Sources};
use hfl::client::status::Status;
use hfl::repo::Opened;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Args;
use crate::boot::{Booting, Record, kept_profile};
use crate::daemon::Daemon;
use crate::failure::{Failure, LOCAL};
use crate::log::Log;
use crate::opening::{open_or_kept, options, sources};
use crate::origin::Origin;
use crate::{cache, notify, root};

/// How long blocks that were just fetched may take to reach the disk cache at the end.
const SETTLE: Duration = Duration::from_secs(5);
/// The most that is read ahead of a stream, in bytes, and its eighths of the memory for blocks.
const READAHEAD_MAX_BYTES: u64 = 16 << 20;
const READAHEAD_EIGHTHS: u64 = 3;
/// The part of that memory for what nobody else counts: buffers of connections, answers to the kernel, files on their way
/// to the disk.
const BUFFERS_PART: u64 = 4;

/// An image that is open, and everything around it.
pub struct Ready {
    pub runtime: Runtime,
    pub log: Arc<Log>,
    pub opened: Opened,
    pub image: Arc<Image>,
    pub status: Arc<Status>,
    pub disk: Option<Arc<DiskStore>>,
    /// The most that is read ahead of a stream, in bytes.
    pub readahead_bytes: u64,
    /// What is noted of the reads.
    record: Record,
}

/// Opens the image.
pub fn ready(args: &Args) -> Result<Ready, Failure> {
    let origin = &args.origin;
    let log = Arc::new(Log::new(origin.level()));
    let options = options(origin)?;
    let runtime = runtime()?;
    let mut sources = sources(origin)?;
    let observer: Arc<dyn Observer> = Arc::clone(&log) as _;
    let (disk, kept) = runtime.block_on(cache::open(args, &log))?.unzip();
    let opened = runtime.block_on(open_or_kept(origin, &mut sources, &options, kept.as_ref(), &log))?;
    if args.root {
        runtime.block_on(sources.look_up());
    }
    if let Some(kept) = &kept {
        let keep =
            cache::keep(kept.clone(), opened.clone(), sources.stores().to_vec(), options.trust, Arc::clone(&log));
        match args.root {
            // What holds a root file system opens nothing by a path later on: the path may lead through itself.
            true => runtime.block_on(keep),
            false => drop(runtime.spawn(keep)),
        }
    }

    let readable = readable(args, &runtime, &opened, &sources, disk.clone(), &observer);
    let status = Arc::new(status(origin, &opened, &readable, disk.clone()));
    let found = match &kept {
        Some(kept) if args.root => runtime.block_on(kept_profile(&opened, kept)),
        _ => None,
    };
    let booting = Booting {
        opened: &opened,
        stores: sources.stores().to_vec(),
        disk: disk.clone().map(|disk| (disk, origin.cache_size)),
        kept: kept.filter(|_| !args.root),
        found,
        counts: Arc::clone(&status.ahead),
        log: &log,
    };
    let (image, record) = {
        // Tasks are started from here, too.
        let _inside = runtime.enter();
        boot(args, readable, &booting)?
    };
    Ok(Ready { runtime, log, opened, image, status, disk, readahead_bytes: readahead_bytes(args), record })
}

fn readahead_bytes(args: &Args) -> u64 {
    let off = args.no_readahead || args.one_at_a_time;
    if off { 0 } else { READAHEAD_MAX_BYTES.min(args.memory / 8 * READAHEAD_EIGHTHS) }
}

/// The image behind its caches; from now on its mirrors are measured.
fn readable(
    args: &Args,
    runtime: &Runtime,
    opened: &Opened,
    sources: &Sources,
    disk: Option<Arc<DiskStore>>,
    observer: &Arc<dyn Observer>,
) -> Readable {
    let held = args.memory - args.memory / BUFFERS_PART - readahead_bytes(args) / UNDER_WAY_PART;
    let reading = Reading {
        memory_bytes: usize::try_from(held).unwrap_or(usize::MAX),
        disk,
        parallel: !args.one_at_a_time,
        mode: args.origin.mode(),
        pace: Pace::default(),
    };
    let readable = sources.image(opened, reading, observer);
    if !args.one_at_a_time {
        runtime.spawn(Readable::probe(Arc::clone(&readable.network), Arc::clone(&opened.index)));
    }
    readable
}

/// The image with its reads noted and a profile's blocks on their way, as the arguments have it.
fn boot(args: &Args, readable: Readable, booting: &Booting<'_>) -> Result<(Arc<Image>, Record), Failure> {
    let (image, reads) = args.boot.noting(readable.image, booting.opened, booting.disk.is_some());
    let image = Arc::new(image);
    let record = args.boot.record(&reads, booting)?;
    if !args.one_at_a_time {
        args.boot.fetch_ahead(&image, &readable.gate, &reads, booting)?;
    }
    Ok((image, record))
}

impl Ready {
    /// Tells everybody that it works, in the words of `announcement`.
    pub fn announce(&self, announcement: &str, args: &Args, daemon: &mut Daemon) {
        self.log.say(announcement);
        if let Some(address) = args.metrics {
            match self.runtime.block_on(metrics::serve(address, Arc::clone(&self.status))) {
                Ok(address) => self.log.say(format_args!("metrics on http://{address}/metrics")),
                Err(e) => self.log.warn(format_args!("--metrics {address}: {e}; nobody is shown any")),
            }
        }
        notify::ready(announcement);
        let log_file = args.log.as_deref().and_then(|path| std::path::absolute(path).ok());
        daemon.ready(log_file.as_deref());
        if args.root {
            root::let_go(log_file.as_deref());
        }
    }

    /// Has what is under way brought to the disk cache and the record to its file, and ends.
    pub fn end(self) {
        notify::stopping();
        self.record.end(&self.log);
        if let Some(disk) = self.disk {
            self.runtime.block_on(disk.settle(SETTLE));
            if disk.heals() > 0 {
                self.log.say(format_args!("{} bad files of the cache were dropped", disk.heals()));
            }
        }
        self.runtime.shutdown_background();
    }
}

/// Mounts, and returns when the mount has ended.
pub fn run(args: &Args, daemon: &mut Daemon) -> Result<(), Failure> {
    let point = MountPoint::check(&args.mountpoint)?;
    let ready = ready(args)?;
    let mount = Mount {
        name: ready.opened.head.image.clone(),
        created: ready.opened.row.created,
        origin: args.origin.sources[0].to_string(),
        image: Arc::clone(&ready.image),
        status: Arc::clone(&ready.status),
        readahead_bytes: ready.readahead_bytes,
    };
    // Signals that come while the kernel mounts must not leave a mount behind.
    let signals = ready.runtime.block_on(async { Signals::new(args.root) })?;
    let mounted = mount.mount(point, ready.runtime.handle(), Arc::clone(&ready.log) as _)?;
    let file = mounted.point().path().join(ready.opened.head.image.as_str());
    ready.announce(&announcement(&file.display(), &ready.opened, &args.origin), args, daemon);
    let ended = ready.runtime.block_on(wait(mounted, signals));
    ready.end();
    ended
}

/// The threads of the program.
pub fn runtime() -> Result<Runtime, Failure> {
    let cores = std::thread::available_parallelism().map_or(2, |n| n.get());
    let built = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(2, 4))
        // Decoding: more would only hold memory. What reads directories and the cache has threads of its own.
        .max_blocking_threads(2 * cores + 4)
        .thread_name("hfl")
        .enable_all()
        .build();
    built.map_err(|e| Failure::new(LOCAL, format!("cannot start threads: {e}")))
}

fn status(origin: &Origin, opened: &Opened, readable: &Readable, disk: Option<Arc<DiskStore>>) -> Status {
    Status {
        image: opened.head.image.clone(),
        version: opened.row.version,
        index: opened.row.index_sha256,
        created: opened.row.created,
        size: opened.row.size,
        mode: if origin.mode() == Mode::Hard { "hard" } else { "soft" },
        since: Instant::now(),
        reads: Arc::default(),
        cache: Arc::clone(&readable.cache),
        disk,
        network: Arc::clone(&readable.network),
        ahead: Arc::default(),
    }
}

/// What is where.
pub fn announcement(place: &dyn std::fmt::Display, opened: &Opened, origin: &Origin) -> String {
    let (version, size) = (opened.row.version, opened.row.size);
    let sources: Vec<String> = origin.sources.iter().map(ToString::to_string).collect();
    format!("{place}: version {version}, {size} bytes, from {}", sources.join(" "))
}

/// The signals that end a mount; none where a root file system hangs on it.
pub struct Signals(Option<[tokio::signal::unix::Signal; 3]>);

impl Signals {
    /// Takes the signals from now on, or ignores them.
    pub fn new(root: bool) -> Result<Self, Failure> {
        if root {
            root::ignore_signals();
            return Ok(Self(None));
        }
        let listen = |kind| signal(kind).map_err(|e| Failure::new(LOCAL, format!("cannot handle signals: {e}")));
        let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
        let [terminate, interrupt, hangup] = kinds.map(listen);
        Ok(Self(Some([terminate?, interrupt?, hangup?])))
    }

    /// Returns when one of them has come.
    pub async fn any(&mut self) {
        let Some([terminate, interrupt, hangup]) = &mut self.0 else { return std::future::pending().await };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Returns when somebody has unmounted, or after a signal has had it unmounted.
async fn wait(mut mounted: Mounted, mut signals: Signals) -> Result<(), Failure> {
    tokio::select! {
        () = mounted.ended() => {}
        () = signals.any() => {
            let point = mounted.point().clone();
            let failed = |e| Failure::new(LOCAL, format!("cannot unmount {}: {e}", point.path().display()));
            mounted.end().await.map_err(failed)?;
        }
    }
    Ok(())
}
