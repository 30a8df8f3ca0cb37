//! Runs a mount from the arguments to its end.

use std::io::Write as _;
use std::sync::Arc;

use hfl::client::serve::metrics;
use hfl::client::serve::mount_point::MountPoint;
use hfl::client::serve::session::{Mount, Mounted};
use hfl::client::{self, Client};
use hfl::{Error, SCHEMA};
use tokio::runtime::Runtime;

use crate::args::Args;
use crate::daemon::Daemon;
use crate::log::Log;
use crate::signals::Signals;
use crate::{notify, root};

/// An open image, with its threads and its log.
pub struct Ready {
    pub runtime: Runtime,
    pub log: Arc<Log>,
    pub client: Client,
}

impl Ready {
    /// Opens the image.
    pub fn new(args: &Args) -> Result<Self, Error> {
        let log = Arc::new(Log::new(args.origin.level()));
        let (options, runtime) = (args.client_options()?, runtime()?);
        let client = runtime.block_on(client::open(options, Arc::clone(&log) as _))?;
        Ok(Self { runtime, log, client })
    }

    /// Announces that the mount works, with the text `announcement`.
    pub fn announce(&self, announcement: &str, args: &Args, daemon: &mut Daemon) {
        self.log.say(announcement);
        if let Some(address) = args.metrics {
            match self.runtime.block_on(metrics::serve(address, Arc::clone(&self.client.status))) {
                Ok(address) => self.log.say(format_args!("metrics on http://{address}/metrics")),
                Err(e) => self.log.warn(format_args!("--metrics {address}: {e}; metrics are off")),
            }
        }
        notify::ready(announcement);
        let log_file = args.log.as_deref().and_then(|path| std::path::absolute(path).ok());
        daemon.ready(log_file.as_deref());
        if args.root {
            root::let_go(log_file.as_deref());
        }
    }

    /// Describes what is mounted where.
    pub fn announcement(&self, place: &dyn std::fmt::Display, args: &Args) -> String {
        let row = &self.client.opened.row;
        let sources: Vec<String> = args.origin.sources.iter().map(ToString::to_string).collect();
        format!("{place}: version {}, {} bytes, from {}", row.version, row.size, sources.join(" "))
    }

    /// Prints what can be read at a place of this kind, if a program asks for it.
    pub fn report(&self, kind: &str, place: &dyn std::fmt::Display, args: &Args) {
        if !args.origin.json {
            return;
        }
        let opened = &self.client.opened;
        let report = serde_json::json!({
            "schema": SCHEMA,
            "image": opened.head.image.to_string(),
            "version": opened.row.version.number(),
            "size": opened.row.size,
            kind: place.to_string(),
        });
        // A stream that cannot be written to is ignored: the mount works.
        let _ = writeln!(std::io::stdout(), "{report}");
    }

    /// Finishes pending work, and ends.
    pub fn end(self) {
        notify::stopping();
        self.runtime.block_on(self.client.close());
        self.runtime.shutdown_background();
    }
}

/// Mounts, and returns when the mount has ended.
pub fn run(args: &Args, daemon: &mut Daemon) -> Result<(), Error> {
    let point = MountPoint::check(&args.mountpoint)?;
    let ready = Ready::new(args)?;
    // A signal during the mount call must not leave a mount behind.
    let signals = ready.runtime.block_on(async { Signals::new(args.root) })?;
    let mounted = mount(&ready, args, point)?;
    let file = mounted.point().path().join(ready.client.opened.head.image.as_str());
    ready.report("file", &file.display(), args);
    ready.announce(&ready.announcement(&file.display(), args), args, daemon);
    let ended = ready.runtime.block_on(wait(mounted, signals));
    ready.end();
    ended
}

/// Mounts an open image as a file.
pub fn mount(ready: &Ready, args: &Args, point: MountPoint) -> Result<Mounted, Error> {
    let Client { opened, image, status, .. } = &ready.client;
    let mount = Mount {
        name: opened.head.image.clone(),
        created: opened.row.created,
        origin: args.origin.sources[0].to_string(),
        image: Arc::clone(image),
        status: Arc::clone(status),
        readahead_bytes: ready.client.readahead_bytes,
    };
    Ok(mount.mount(point, ready.runtime.handle(), Arc::clone(&ready.log) as _)?)
}

/// Builds the runtime with the program's threads.
pub fn runtime() -> Result<Runtime, Error> {
    let cores = std::thread::available_parallelism().map_or(2, |n| n.get());
    let built = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(2, 4))
        // For decoding: more threads would only use memory. Directory reads and the cache have their own threads.
        .max_blocking_threads(2 * cores + 4)
        .thread_name("hfl")
        .enable_all()
        .build();
    built.map_err(|e| Error::local(format!("cannot start threads: {e}")))
}

/// Returns after an unmount, which a signal also causes.
async fn wait(mut mounted: Mounted, mut signals: Signals) -> Result<(), Error> {
    tokio::select! {
        () = mounted.ended() => {}
        () = signals.any() => {
            let point = mounted.point().clone();
            let failed = |e| Error::local(format!("cannot unmount {}: {e}", point.path().display()));
            mounted.end().await.map_err(failed)?;
        }
    }
    Ok(())
}
