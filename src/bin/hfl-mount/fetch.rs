//! `hfl-mount fetch SOURCE...`: fetches the whole image, or what a boot reads of it, into the cache ahead of time.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use clap::Parser;
use hfl::client::cache::Need;
use hfl::client::download::Download;
use hfl::client::source::JOBS;
use hfl::client::{self, Client, ClientOptions};
use hfl::format::profile::FILE_MAX_BYTES;
use hfl::repo::Opened;
use hfl::{Error, SCHEMA};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::CODES;
use crate::log::Log;
use crate::origin::ImageArgs;
use crate::run::runtime;

/// Interval of progress output on a terminal, and elsewhere.
const SHOWN_EVERY: Duration = Duration::from_millis(500);
const SAID_EVERY: Duration = Duration::from_secs(10);
/// A file occupies whole pages of the disk.
const PAGE_BYTES: u64 = 4096;

const AFTER: &str = "\
Example:
  hfl-mount fetch --key RWQ... https://mirror.example/hfl/debian-ps3

The cache then is a mirror of the fetched blocks: the same image can be mounted without a network, and \
`hfl serve CACHE` serves it to other machines. Run the command again to continue after an interruption, or to fetch a \
newer version.";

/// Fetch an image into the cache, so that it can be mounted without a network
#[derive(Debug, Parser)]
#[command(name = "fetch", after_help = format!("{AFTER}\n\n{CODES}"))]
pub struct FetchArgs {
    #[command(flatten)]
    pub origin: ImageArgs,
    /// Fetch only the blocks of the profile, which a boot reads
    #[arg(long)]
    profile_only: bool,
    /// Number of blocks fetched at the same time
    #[arg(long, value_name = "N", default_value_t = JOBS, value_parser = clap::value_parser!(u32).range(1..=256))]
    jobs: u32,
}

/// Fetches, and reports the result.
pub fn run(args: &FetchArgs) -> Result<(), Error> {
    let log = Arc::new(Log::new(args.origin.level()));
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot_wait)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot_wait)?;
        tokio::select! {
            done = fetch(args, &log) => done,
            _ = interrupt.recv() => Err(interrupted()),
            _ = terminate.recv() => Err(interrupted()),
        }
    });
    runtime.shutdown_background();
    done
}

fn cannot_wait(error: std::io::Error) -> Error {
    Error::local(format!("cannot handle signals: {error}"))
}

fn interrupted() -> Error {
    Error::local("interrupted").hint("fetched blocks are kept; run it again to continue")
}

async fn fetch(args: &FetchArgs, log: &Arc<Log>) -> Result<(), Error> {
    let origin = &args.origin;
    if origin.caches_nothing() {
        return Err(Error::usage("--cache none: there is nowhere to put what is fetched"));
    }
    let cache = origin.cache_options(Need::Required);
    let cache = cache.ok_or_else(|| Error::local("no place for a cache").hint("name one with --cache"))?;
    let options = ClientOptions { cache: Some(cache), ..origin.client_options()? };
    let client = client::open(options, Arc::clone(log) as _).await?;
    let cache = client.cache.as_ref().expect("a cache that is required was opened");
    let blocks = blocks(args, &client).await?;
    fits(&blocks, &client.opened, origin)?;
    let (started, total) = (Instant::now(), bytes_of(&blocks, &client.opened));
    let download = Download::new(Arc::clone(&client.image), Arc::clone(&cache.disk), args.jobs as usize);
    let show = Show { quiet: origin.quiet, blocks: blocks.len(), bytes: total };
    tokio::select! {
        done = download.run(&blocks) => done?,
        () = show.keep_showing(&download) => {}
    }
    show.end();
    let opened = &client.opened;
    let object = serde_json::json!({
        "schema": SCHEMA,
        "image": opened.head.image.to_string(),
        "version": opened.row.version.number(),
        "blocks": blocks.len(),
        "bytes": total,
        "fetched_bytes": client.status.fetched_bytes(),
        "delta_blocks": client.status.deltas.blocks.load(Relaxed),
        "delta_bytes": client.status.deltas.bytes.load(Relaxed),
        "delta_saved_bytes": client.status.deltas.saved_bytes.load(Relaxed),
        "seconds": started.elapsed().as_secs_f64(),
        "cache": cache.options.directory.display().to_string(),
    });
    report(args, log, &object)
}

/// The blocks to fetch; those of a profile in the order in which they are needed.
async fn blocks(args: &FetchArgs, client: &Client) -> Result<Vec<u32>, Error> {
    let profile = client.profile(FILE_MAX_BYTES).await;
    let opened = &client.opened;
    match (args.profile_only, profile) {
        (false, _) => Ok((0..opened.index.blocks().len() as u32).collect()),
        (true, Some(profile)) => Ok(profile.blocks_of(&opened.index)),
        (true, None) => {
            let why = format!("{} version {} has no profile", opened.head.image, opened.row.version);
            Err(Error::local(why).hint("without --profile-only, everything is fetched"))
        }
    }
}

fn bytes_of(blocks: &[u32], opened: &Opened) -> u64 {
    blocks.iter().map(|&block| u64::from(opened.index.blocks()[block as usize].zlib_bytes)).sum()
}

/// Refuses to fetch more than the cache can hold.
fn fits(blocks: &[u32], opened: &Opened, origin: &ImageArgs) -> Result<(), Error> {
    let on_disk =
        |&block: &u32| u64::from(opened.index.blocks()[block as usize].zlib_bytes).next_multiple_of(PAGE_BYTES);
    let needed: u64 = blocks.iter().map(on_disk).sum();
    if needed <= origin.cache_size {
        return Ok(());
    }
    let why = format!("{needed} bytes do not fit into a cache of {}", origin.cache_size);
    Err(Error::local(why).hint(format!("--cache-size {}M", needed.div_ceil(1 << 20))))
}

fn report(args: &FetchArgs, log: &Log, object: &serde_json::Value) -> Result<(), Error> {
    if args.origin.json {
        let mut out = std::io::stdout().lock();
        let printed = writeln!(out, "{object:#}").and_then(|()| out.flush());
        return printed.map_err(|e| Error::local(format!("cannot print: {e}")));
    }
    log.say(format_args!(
        "{} version {}: {} blocks, {} bytes are in {}; {} bytes were downloaded in {:.1} s",
        object["image"].as_str().unwrap_or_default(),
        object["version"],
        object["blocks"],
        object["bytes"],
        object["cache"].as_str().unwrap_or_default(),
        object["fetched_bytes"],
        object["seconds"].as_f64().unwrap_or_default(),
    ));
    if object["delta_blocks"] != 0 {
        let (blocks, bytes, saved) = (&object["delta_blocks"], &object["delta_bytes"], &object["delta_saved_bytes"]);
        log.say(format_args!("{blocks} blocks were made from deltas of {bytes} bytes, which saved {saved} bytes"));
    }
    Ok(())
}

/// Shows progress on the standard error stream.
struct Show {
    quiet: bool,
    blocks: usize,
    bytes: u64,
}

impl Show {
    /// Clears the progress line.
    fn end(&self) {
        if !self.quiet && std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }

    /// Shows progress forever.
    async fn keep_showing(&self, download: &Download) {
        let terminal = std::io::stderr().is_terminal();
        loop {
            tokio::time::sleep(if terminal { SHOWN_EVERY } else { SAID_EVERY }).await;
            let counts = download.counts();
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let (blocks, bytes) = (counts.blocks.load(Relaxed), counts.bytes.load(Relaxed));
            let line = format!("{blocks} of {} blocks, {:.1} of {:.1} MiB", self.blocks, mib(bytes), mib(self.bytes));
            match (self.quiet, terminal) {
                (true, _) => {}
                (false, true) => eprint!("\r{line} "),
                (false, false) => eprintln!("hfl-mount: {line}"),
            }
        }
    }
}
