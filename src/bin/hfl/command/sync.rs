//! `hfl sync`.

use std::process::ExitCode;

use hfl::format::name::Name;
use hfl::publish::{self, Outcome, Report, SyncOptions};

use super::publish::write_mirror;

/// Bring every mirror up to date, copying from the mirrors that have the newest versions.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  hfl sync --to mirrors.toml                 # after adding a [[mirror]] table, or after exit code 6
  hfl sync --to mirrors.toml --check list    # also upload blocks that a listing does not contain
  hfl sync --to mirrors.toml --image debian-ps3 --key RWQ...

If the secret key is available, heads are signed again when mirrors.toml contains new public URLs; otherwise clients \
learn of a new mirror with the next version. The exit codes are those of hfl publish.")]
pub struct Args {
    /// Sync this image only; can be repeated [default: all images that a mirror lists]
    #[arg(long, value_name = "NAME")]
    image: Vec<Name>,
    #[command(flatten)]
    trust: super::TrustArgs,
    #[command(flatten)]
    first: super::FirstArgs,
    #[command(flatten)]
    pub change: super::ChangeArgs,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mirrors = super::to::mirrors(&args.change.to)?;
    let key = super::KeyArgs { key: None, unsigned: args.trust.unsigned };
    let mut repository = super::repository(&args.change, mirrors, key);
    repository.first = args.first.first;
    repository.reader = args.trust.reader();
    let options = SyncOptions { images: args.image, policy: args.trust.policy(&repository)? };
    let watch = args.change.says.watch()?;
    let report = super::runtime()?.block_on(publish::sync(&repository, &options, &watch));
    drop(watch);
    super::publish::finish_all(&report?, &super::Output::of(&args.change.says), write_report)
}

fn write_report(report: &Report, out: &mut String) -> std::fmt::Result {
    use std::fmt::Write as _;
    writeln!(out, "{} version {}", report.image, report.version)?;
    let done = if report.outcome == Outcome::DryRun { "to send:" } else { "sent" };
    report.mirrors.iter().try_for_each(|m| write_mirror(m, done, out))
}
