//! `hfl gc`.

use std::fmt::Write as _;
use std::process::ExitCode;

use hfl::format::name::{Name, Version};
use hfl::publish::{self, GcOptions, GcReport, MirrorPlan, Retired};

use super::publish::{tell_behind, write_mirror};
use crate::exit;
use crate::show::{Verbosity, bytes, count};

/// Versions to keep if neither the option nor mirrors.toml gives a number.
const KEEP: u32 = 30;

/// Remove old versions and the blocks that only they need, in two steps some days apart.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  hfl gc --to mirrors.toml --dry-run
  hfl gc --to mirrors.toml --keep 14 --keep-days 30
  hfl gc --to mirrors.toml --grace-days 0     at once: clients that still read an old version fail

  hfl gc --to mirrors.toml --image debian-ps3 --retire 17

A version is retired first: the head no longer names it, and a signed record of it is kept. Its blocks go with a run of
hfl gc after the grace period, as far as no version of any image on any mirror names them. Nothing is removed from a mirror
on which a head is missing or does not verify. Exit codes: 0 done, 3 something did not verify, 4 no mirror can be reached,
5 another publisher is at work, 6 some mirrors were left behind or left alone.")]
pub struct Args {
    /// Only retire old versions of this image; can be given several times [default: all whose key is at hand]
    #[arg(long, value_name = "NAME")]
    image: Vec<Name>,
    /// Versions that stay, newest first [default: `keep` of mirrors.toml, else 30]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Versions younger than so many days stay, too
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    keep_days: u32,
    /// Retire this version, too, however new it is; can be given several times
    #[arg(long, value_name = "VERSION", requires = "image")]
    retire: Vec<Version>,
    /// Days between retiring and removing
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    grace_days: u32,
    /// Retire versions even if more than half of all objects would be removed with them
    #[arg(long)]
    more_than_half: bool,
    #[command(flatten)]
    key: super::KeyArgs,
    #[command(flatten)]
    pub change: super::ChangeArgs,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mirrors = super::read_mirrors(&args.change.to)?;
    let keep = args.keep.or(mirrors.publish.keep).unwrap_or(KEEP);
    let repository = super::repository(&args.change, mirrors, args.key);
    let options = GcOptions {
        images: args.image,
        keep: keep as usize,
        keep_days: args.keep_days,
        retire: args.retire,
        grace_days: args.grace_days,
        more_than_half: args.more_than_half,
    };
    let watch = super::watch(args.change.output.verbosity())?;
    let report = super::runtime()?.block_on(publish::gc(&repository, &options, &watch));
    drop(watch);
    let report = report?;
    if args.change.output.json {
        exit::print_json(&report)?;
    } else if args.change.output.verbosity() != Verbosity::Quiet {
        exit::print_with(|out| write_report(&report, args.change.dry_run, out))?;
    } else {
        report.marked.iter().for_each(|marked| tell_behind(&marked.mirrors));
        for (mirror, why) in report.swept.mirrors.iter().filter_map(|m| Some((m, m.why.as_ref()?))) {
            exit::warn(&format!("mirror {} was left alone: {why}", mirror.name));
        }
    }
    let behind = report.swept.mirrors.iter().any(|m| m.why.is_some())
        || report.marked.iter().flat_map(|m| &m.mirrors).any(|m| !m.current);
    Ok(if behind { ExitCode::from(exit::BEHIND) } else { ExitCode::SUCCESS })
}

fn write_report(report: &GcReport, dry_run: bool, out: &mut String) -> std::fmt::Result {
    report.marked.iter().try_for_each(|marked| write_marked(marked, dry_run, out))?;
    let swept = &report.swept;
    for pending in &swept.pending {
        writeln!(out, "{} is retired and goes after {}", pending.version, pending.after)?;
    }
    if swept.versions.is_empty() {
        writeln!(out, "nothing to remove")?;
        return swept.mirrors.iter().try_for_each(|mirror| write_removed(mirror, out));
    }
    let is_whole = swept.mirrors.iter().all(|mirror| mirror.why.is_none());
    let verb = match (dry_run, is_whole) {
        (true, _) => "would remove",
        (false, true) => "removed",
        (false, false) => "removed, where a mirror was not left alone,",
    };
    writeln!(
        out,
        "{verb} {} blocks, {}, and {} files of {}",
        count(swept.blocks),
        bytes(swept.zlib_bytes),
        count(swept.files),
        swept.versions.join(", ")
    )?;
    swept.mirrors.iter().try_for_each(|mirror| write_removed(mirror, out))
}

fn write_removed(mirror: &MirrorPlan, out: &mut String) -> std::fmt::Result {
    let why = mirror.why.as_ref().map(|why| format!("; LEFT ALONE: {why}")).unwrap_or_default();
    writeln!(out, "  mirror  {}: {} objects{why}", mirror.name, count(mirror.removed))?;
    mirror.hint.iter().try_for_each(|hint| writeln!(out, "          hint: {hint}"))
}

fn write_marked(marked: &Retired, dry_run: bool, out: &mut String) -> std::fmt::Result {
    if let Some(why) = &marked.skipped {
        return writeln!(out, "{}: left alone: {why}", marked.image);
    }
    let (kept, retired) = (marked.kept.len(), &marked.retired);
    let numbers: Vec<String> = retired.iter().map(u32::to_string).collect();
    match (retired.is_empty(), dry_run) {
        (true, _) => writeln!(out, "{}: {kept} versions, all stay", marked.image)?,
        (false, true) => writeln!(out, "{}: {kept} versions stay, would retire {}", marked.image, numbers.join(", "))?,
        (false, false) => writeln!(out, "{}: {kept} versions stay, retired {}", marked.image, numbers.join(", "))?,
    }
    let done = if dry_run { "to send:" } else { "sent" };
    marked.mirrors.iter().try_for_each(|m| write_mirror(m, done, out))
}
