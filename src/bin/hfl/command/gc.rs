//! `hfl gc`.

use std::fmt::Write as _;
use std::process::ExitCode;

use hfl::format::name::{Name, Version};
use hfl::format::units;
use hfl::publish::{self, GcOptions, GcReport, MirrorPlan, Retired};

use super::publish::{tell_behind, write_mirror};
use crate::exit;
use crate::show::{Verbosity, bytes, count};

/// Versions to keep if neither the option nor mirrors.toml gives a number.
const KEEP: u32 = 30;

/// Remove old versions: retire them, and remove their unused blocks after a grace period.
#[derive(clap::Args)]
#[command(after_help = format!("Examples:
  hfl gc --to mirrors.toml --dry-run
  hfl gc --to mirrors.toml --keep 14 --keep-for 30d
  hfl gc --to mirrors.toml --image debian-ps3 --retire 17
  hfl gc --to mirrors.toml --grace 0d    # at once: clients that still read an old version fail

A version is first retired: the head no longer names it, and a signed record of it is kept. A run of hfl gc after the \
grace period removes those of its blocks that no version of any image on any mirror names. Nothing is removed from \
a mirror where a head is missing or does not verify.

{CODES}
  6  some mirrors left behind or skipped (run the command again)", CODES = exit::CODES))]
pub struct Args {
    /// Retire old versions of this image only; can be repeated [default: all images whose secret key is available]
    #[arg(long, value_name = "NAME")]
    image: Vec<Name>,
    /// Number of newest versions to keep [default: `keep` of mirrors.toml, else 30]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Also keep versions younger than this: days, or a time such as 4w
    #[arg(long, alias = "keep-days", value_name = "TIME", default_value = "0d", value_parser = units::days)]
    keep_for: u32,
    /// Also retire this version, regardless of its age; can be repeated
    #[arg(long, value_name = "VERSION", requires = "image")]
    retire: Vec<Version>,
    /// Time between retiring a version and removing its blocks: days, or a time such as 2w
    #[arg(long, alias = "grace-days", value_name = "TIME", default_value = "7d", value_parser = units::days)]
    grace: u32,
    /// Retire versions even if that removes more than half of all objects
    #[arg(long)]
    more_than_half: bool,
    #[command(flatten)]
    key: super::KeyArgs,
    #[command(flatten)]
    pub change: super::ChangeArgs,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mirrors = super::to::mirrors(&args.change.to)?;
    let keep = args.keep.or(mirrors.publish.keep).unwrap_or(KEEP);
    let repository = super::repository(&args.change, mirrors, args.key);
    let options = GcOptions {
        images: args.image,
        keep: keep as usize,
        keep_days: args.keep_for,
        retire: args.retire,
        grace_days: args.grace,
        more_than_half: args.more_than_half,
    };
    let watch = args.change.says.watch()?;
    let report = super::runtime()?.block_on(publish::gc(&repository, &options, &watch));
    drop(watch);
    let report = report?;
    if args.change.says.output.json {
        exit::print_json(&report)?;
    } else if args.change.says.output.verbosity() != Verbosity::Quiet {
        exit::print_with(|out| write_report(&report, args.change.dry_run, out))?;
    } else {
        report.marked.iter().for_each(|marked| tell_behind(&marked.mirrors));
        for (mirror, why) in report.swept.mirrors.iter().filter_map(|m| Some((m, m.why.as_ref()?))) {
            exit::warn(&format!("mirror {} was skipped: {why}", mirror.name));
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
        (false, false) => "removed, except on skipped mirrors,",
    };
    let deltas = match swept.deltas {
        0 => String::new(),
        deltas => format!(", {} deltas, {}", count(deltas), bytes(swept.delta_bytes)),
    };
    writeln!(
        out,
        "{verb} {} blocks, {}{deltas}, and {} files of {}",
        count(swept.blocks),
        bytes(swept.zlib_bytes),
        count(swept.files),
        swept.versions.join(", ")
    )?;
    swept.mirrors.iter().try_for_each(|mirror| write_removed(mirror, out))
}

fn write_removed(mirror: &MirrorPlan, out: &mut String) -> std::fmt::Result {
    let why = mirror.why.as_ref().map(|why| format!("; SKIPPED: {why}")).unwrap_or_default();
    writeln!(out, "  mirror  {}: {} objects{why}", mirror.name, count(mirror.removed))?;
    mirror.hint.iter().try_for_each(|hint| writeln!(out, "          hint: {hint}"))
}

fn write_marked(marked: &Retired, dry_run: bool, out: &mut String) -> std::fmt::Result {
    if let Some(why) = &marked.skipped {
        return writeln!(out, "{}: skipped: {why}", marked.image);
    }
    let (kept, retired) = (marked.kept.len(), &marked.retired);
    let numbers: Vec<String> = retired.iter().map(u32::to_string).collect();
    match (retired.is_empty(), dry_run) {
        (true, _) => writeln!(out, "{}: {kept} versions, all kept", marked.image)?,
        (false, true) => writeln!(out, "{}: {kept} versions kept, would retire {}", marked.image, numbers.join(", "))?,
        (false, false) => writeln!(out, "{}: {kept} versions kept, retired {}", marked.image, numbers.join(", "))?,
    }
    let done = if dry_run { "to send:" } else { "sent" };
    marked.mirrors.iter().try_for_each(|m| write_mirror(m, done, out))
}
