//! `hfl rollback`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use hfl::name::{Label, Name, Version};
use hfl::publish;

use crate::show::{Show, Verbosity};

/// Publish an old version again as the newest one: an index and a head are uploaded, nothing else.
#[derive(clap::Args)]
#[command(after_help = "Example:
  hfl rollback debian-ps3 41 --to mirrors.toml --label 'kernel of 42 does not boot'

The versions are listed by hfl log. Exit codes are those of hfl publish.")]
pub struct Args {
    /// The image
    name: Name,
    /// The version whose contents are to come back
    version: Version,
    /// The mirrors to publish to
    #[arg(long, value_name = "mirrors.toml")]
    to: PathBuf,
    /// What to say of the new version [default: version N again]
    #[arg(long)]
    label: Option<Label>,
    #[command(flatten)]
    key: super::KeyArgs,
    #[command(flatten)]
    delivery: super::DeliveryArgs,
    /// Only say what would be sent
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pub output: super::OutputArgs,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mirrors = super::read_mirrors(&args.to)?;
    let mut work = super::work(&args.to, mirrors, args.key, &args.delivery);
    work.dry_run = args.dry_run;
    let cancel = super::cancel_on_signal()?;
    let show = Arc::new(Show::new(args.output.verbosity()));
    let rolled = publish::rollback(work, args.name, args.version, args.label, show.clone(), cancel);
    let report = super::runtime()?.block_on(rolled);
    drop(show);
    super::publish::finish(&report?, args.output.json, args.output.verbosity() == Verbosity::Quiet)
}
