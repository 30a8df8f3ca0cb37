//! `hfl rollback`.

use std::process::ExitCode;

use hfl::Error;
use hfl::format::name::{Label, Name, Version};
use hfl::publish::{self, RollbackOptions};
use hfl::repo::source::versioned;

use crate::show::Verbosity;

/// Publish an old version again as the newest one; only an index and a head are uploaded.
#[derive(clap::Args)]
#[command(after_help = "Example:
  hfl rollback debian-ps3@41 --to mirrors.toml --label 'kernel of 42 does not boot'

hfl log lists the versions. The exit codes are those of hfl publish.")]
pub struct Args {
    /// Image and the version to publish again
    #[arg(value_name = "NAME@VERSION")]
    image: String,
    /// The version: an older spelling of NAME@VERSION
    #[arg(hide = true)]
    version: Option<Version>,
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
    let (name, version) = which(&args)?;
    let mirrors = super::to::mirrors(&args.change.to)?;
    let mut repository = super::repository(&args.change, mirrors, args.key);
    repository.first = args.first.first;
    let options = RollbackOptions { name, version, label: args.label };
    let watch = args.change.says.watch()?;
    let report = super::runtime()?.block_on(publish::rollback(&repository, &options, &watch));
    drop(watch);
    super::publish::finish(
        &report?,
        args.change.says.output.json,
        args.change.says.output.verbosity() == Verbosity::Quiet,
    )
}

/// The image, and the version that is named after it.
fn which(args: &Args) -> anyhow::Result<(Name, Version)> {
    let (name, version) = versioned(&args.image).map_err(|e| super::usage(format!("`{}`: {e}", args.image)))?;
    match (version, args.version) {
        (Some(version), None) | (None, Some(version)) => Ok((name, version)),
        (Some(_), Some(_)) => Err(super::usage(format!("{}: one version is published again, not two", args.image))),
        (None, None) => {
            let error = Error::usage(format!("{name}: which version is to be published again?"));
            Err(error.hint(format!("hfl log {name} --to ... lists them: {name}@VERSION")).into())
        }
    }
}
