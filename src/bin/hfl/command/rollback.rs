//! `hfl rollback`.

use std::process::ExitCode;

use hfl::format::name::{Label, Name, Version};
use hfl::publish::{self, RollbackOptions};

use crate::show::Verbosity;

/// Publish an old version again as the newest one; only an index and a head are uploaded.
#[derive(clap::Args)]
#[command(after_help = "Example:
  hfl rollback debian-ps3 41 --to mirrors.toml --label 'kernel of 42 does not boot'

hfl log lists the versions. The exit codes are those of hfl publish.")]
pub struct Args {
    /// Name of the image
    name: Name,
    /// Version to publish again
    version: Version,
    /// Label of the new version, at most 64 characters [default: `version N again`]
    #[arg(long)]
    label: Option<Label>,
    #[command(flatten)]
    key: super::KeyArgs,
    #[command(flatten)]
    first: super::FirstArgs,
    #[command(flatten)]
    pub change: super::ChangeArgs,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mirrors = super::to::mirrors(&args.change.to)?;
    let mut repository = super::repository(&args.change, mirrors, args.key);
    repository.first = args.first.first;
    let options = RollbackOptions { name: args.name, version: args.version, label: args.label };
    let watch = args.change.says.watch()?;
    let report = super::runtime()?.block_on(publish::rollback(&repository, &options, &watch));
    drop(watch);
    super::publish::finish(
        &report?,
        args.change.says.output.json,
        args.change.says.output.verbosity() == Verbosity::Quiet,
    )
}
