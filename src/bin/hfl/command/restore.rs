//! `hfl restore`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use hfl::client::{self, ClientOptions};
use hfl::format::name::Version;
use hfl::publish::{self, RestoreOptions};
use hfl::repo::source::Source;

use crate::exit;
use crate::show::{Verbosity, bytes, count};

/// Restore an image to a sparse file or a block device, verifying every block.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  hfl restore https://mirror.example/hfl/debian-ps3 debian.img --key RWQ...
  hfl restore public/debian-ps3 new.img --seed old.img

Blocks found in a seed are not downloaded.")]
pub struct Args {
    /// Image to restore: http(s)://HOST/PATH/NAME or DIRECTORY/NAME
    source: Source,
    /// New file, or block device that is not in use
    out: PathBuf,
    /// Image that may contain some of the blocks; can be repeated
    #[arg(long, value_name = "OLD.img")]
    seed: Vec<PathBuf>,
    /// Use this version instead of the newest
    #[arg(long, value_name = "N")]
    version: Option<Version>,
    #[command(flatten)]
    trust: super::TrustArgs,
    /// Overwrite an existing file, or the contents of the device
    #[arg(long)]
    force: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// Print errors only
    #[arg(short, long)]
    quiet: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let opening = args.trust.options(&args.source.image)?.version(args.version);
    let watch = super::watch(Verbosity::of(args.quiet || args.json, false))?;
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let options = RestoreOptions { out: args.out.clone(), seeds: args.seed, force: args.force, jobs };
    let report = super::runtime()?.block_on(async {
        let client =
            client::open(ClientOptions::once(vec![args.source.base], opening), Arc::new(exit::Warnings)).await?;
        anyhow::Ok(publish::restore(&client.opened, client.source, &options, &watch).await?)
    });
    drop(watch);
    let report = report?;
    if args.json {
        exit::print_json(&report)?;
    } else if !args.quiet {
        exit::print(&format!(
            "{}: {} version {}, {} in {:.1} s\n  downloaded {} blocks, {}\n  from seeds {}\n  zero       {}\n",
            args.out.display(),
            report.image,
            report.version,
            bytes(report.size),
            report.seconds,
            count(report.fetched_blocks),
            bytes(report.fetched_zlib_bytes),
            bytes(report.seed_bytes),
            bytes(report.hole_bytes),
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
