//! `hfl restore`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hfl::Error;
use hfl::client::mirrors::SILENCE_MAX;
use hfl::client::source::mirrors::Mode;
use hfl::client::{self, ClientOptions};
use hfl::format::name::Version;
use hfl::format::units;
use hfl::progress::Watch;
use hfl::publish::{self, RestoreOptions, RestoreReport, SavedBases};
use hfl::repo::OpenOptions;
use hfl::store::http::HttpOptions;
use hfl::system::{directories, priority};

use crate::show::{bytes, count};

/// Concurrent downloads in the background.
const BACKGROUND_FETCHES: usize = 2;

/// Restore an image to a sparse file or a block device, verifying every block.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  hfl restore https://mirror.example/hfl/debian-ps3 debian.img --key RWQ...
  hfl restore https://mirror.example/hfl/debian-ps3 /dev/sdb2 --key RWQ... --in-place
  hfl restore debian-ps3@41 old.img --to mirrors.toml
  hfl restore public/debian-ps3 new.img --seed old.img

Run an interrupted restore again to continue it: FILE.hfl-partial keeps what was downloaded. A device is continued with \
--in-place. Blocks found in a seed, or with --in-place in the old content, are not downloaded.")]
pub struct Args {
    #[command(flatten)]
    image: super::image::ImageArgs,
    /// New file, or block device that is not in use; with --in-place, an existing one
    out: PathBuf,
    /// Image that may contain some of the blocks; can be repeated
    #[arg(long, value_name = "OLD.img")]
    seed: Vec<PathBuf>,
    /// Update an existing file or device: blocks that it holds are kept or moved, and only what differs is written
    #[arg(long)]
    in_place: bool,
    /// Use this version: an older spelling of NAME@VERSION
    #[arg(long, value_name = "N", hide = true)]
    version: Option<Version>,
    #[command(flatten)]
    trust: super::TrustArgs,
    /// Overwrite an existing file, or the contents of the device
    #[arg(long)]
    force: bool,
    /// Ignore what an interrupted restore of this file left, and start over
    #[arg(long, conflicts_with = "in_place")]
    restart: bool,
    /// Do not read back and compare what was written
    #[arg(long)]
    no_verify: bool,
    /// Give up when no block has arrived for this time
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = units::time)]
    timeout: Duration,
    /// Use only the given mirror, not those that the head names
    #[arg(long)]
    only: bool,
    /// Proxy: `http(s)://[USER:PASSWORD@]HOST:PORT` [default: http_proxy, https_proxy and no_proxy]
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// File (PEM) of certificate authorities to trust in addition to the public ones
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Leave processor, disk and network to others: idle I/O priority, nice 19, one thread, two downloads at a time
    #[arg(long)]
    background: bool,
    #[command(flatten)]
    pub says: super::LongArgs,
}

impl Args {
    fn restore_options(&self) -> RestoreOptions {
        let mut options = RestoreOptions::new(self.out.clone());
        if self.background {
            (options.fetches, options.jobs) = (BACKGROUND_FETCHES, 1);
        }
        RestoreOptions {
            seeds: self.seed.clone(),
            force: self.force,
            in_place: self.in_place,
            restart: self.restart,
            verify: !self.no_verify,
            timeout: self.timeout,
            ..options
        }
    }

    fn client_options(&self) -> anyhow::Result<ClientOptions> {
        let image = self.image.image(self.version)?;
        let accept = self.trust.options(&image.name)?.version(image.version);
        let accept = OpenOptions { follow_mirrors: !self.only, ..accept };
        Ok(ClientOptions {
            alone: self.only,
            http: HttpOptions { proxy: self.proxy.clone(), ca_file: self.ca_file.clone(), silence_max: SILENCE_MAX },
            mode: Mode::Soft(self.timeout),
            ..ClientOptions::once(image.bases()?, accept)
        })
    }
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (mut reading, mut options) = (args.client_options()?, args.restore_options());
    if args.in_place || !args.seed.is_empty() {
        // Without room for old blocks, whole blocks are downloaded.
        options.bases = SavedBases::new(&directories::temporary()).ok().map(Arc::new);
        reading.base_blocks = options.bases.iter().map(|bases| Arc::clone(bases) as _).collect();
    }
    if args.background {
        // Before threads are started, which inherit it.
        priority::background().map_err(|e| Error::local(format!("cannot lower the priority: {e}")))?;
    }
    let progress = args.says.start()?;
    let watch = Watch { progress: Arc::clone(&progress) as _, cancel: super::cancel_on_signal()? };
    let report = super::runtime()?.block_on(async {
        let client = tokio::select! {
            client = client::open(reading, Arc::clone(&progress) as _) => client?,
            () = hfl::progress::cancelled(&watch.cancel) => return Err(Error::interrupted().into()),
        };
        if let (Some(bases), Some(deltas)) = (&options.bases, &client.deltas) {
            bases.want(deltas.bases());
        }
        let report = publish::restore(&client.opened, client.source, &options, &watch).await?;
        let counts = &client.status.deltas;
        anyhow::Ok(RestoreReport {
            delta_blocks: counts.blocks.load(Relaxed),
            delta_bytes: counts.bytes.load(Relaxed),
            delta_saved_bytes: counts.saved_bytes.load(Relaxed),
            ..report
        })
    });
    progress.end();
    let report = report?;
    args.says.output.print(&report, |report, out| {
        *out += &said(&args, report);
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The result, for people.
fn said(args: &Args, report: &RestoreReport) -> String {
    let mut text = format!(
        "{}: {} version {}, {} in {:.1} s\n  downloaded {} blocks, {}\n",
        args.out.display(),
        report.image,
        report.version,
        bytes(report.size),
        report.seconds,
        count(report.fetched_blocks),
        bytes(report.fetched_zlib_bytes.saturating_sub(report.delta_saved_bytes)),
    );
    if report.delta_blocks > 0 {
        let (blocks, saved) = (count(report.delta_blocks), bytes(report.delta_saved_bytes));
        text += &format!("  {blocks} of these were made from deltas, which saved {saved}\n");
    }
    let parts = [
        ("kept", report.kept_bytes),
        ("moved", report.moved_bytes),
        ("from seeds", report.seed_bytes),
        ("zero", report.hole_bytes),
        ("written", report.written_bytes),
        ("read back", report.read_back_bytes),
    ];
    for (name, part) in parts.into_iter().filter(|(_, part)| *part > 0) {
        text += &format!("  {name:<10} {}\n", bytes(part));
    }
    if let Some(sha256) = &report.image_sha256 {
        text += &format!("  sha256     {sha256}, as the publisher signed it\n");
    }
    text
}
