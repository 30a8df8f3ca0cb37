//! `hfl rollback`.

use std::process::ExitCode;
use std::sync::Arc;

use hfl::format::name::{Label, Name, Version};
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
    /// What to say of the new version [default: version N again]
    #[arg(long)]
    label: Option<Label>,
    #[command(flatten)]
    key: super::KeyArgs,
    #[command(flatten)]
    pub change: super::ChangeArgs,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mirrors = super::read_mirrors(&args.change.to)?;
    let work = super::work(&args.change, mirrors, args.key);
    let cancel = super::cancel_on_signal()?;
    let show = Arc::new(Show::new(args.change.output.verbosity()));
    let rolled = publish::rollback(work, args.name, args.version, args.label, show.clone(), cancel);
    let report = super::runtime()?.block_on(rolled);
    drop(show);
    super::publish::finish(&report?, args.change.output.json, args.change.output.verbosity() == Verbosity::Quiet)
}
