//! `hfl verify`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use hfl::format::name::Name;
use hfl::publish::{self, Checked, Place, Problem, VerifyOptions, VerifyReport};
use hfl::repo::survey::ProblemKind;

use crate::exit;
use crate::show::{Verbosity, bytes, count};
use hfl::ErrorKind;

/// Maximum problems printed; JSON contains all.
const PROBLEMS_SHOWN: usize = 50;

/// Verify the objects on all mirrors, and optionally repair them.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  hfl verify --to mirrors.toml
  hfl verify --to mirrors.toml --deep --repair
  hfl verify --to mirrors.toml --deep --repair --seed debian-ps3.img
  hfl verify --to mirrors.toml --mirror tokyo --image debian-ps3 --json

Reports objects that are missing, truncated, wrong or stray. Without --repair, nothing is written and no lock is \
taken. Strays are never removed.

Exit codes:
  0  no problems, or all repaired
  1  local error
  2  usage error
  3  problems remain
  4  no mirror reachable
  5  locked (with --repair)
  6  no problems, but some mirrors are behind or unreachable, or images were not checked")]
pub struct Args {
    /// File that describes the mirrors
    #[arg(long, value_name = "mirrors.toml")]
    to: PathBuf,
    /// Verify this mirror only; can be repeated
    #[arg(long, value_name = "NAME")]
    mirror: Vec<Name>,
    /// Verify this image only; can be repeated
    #[arg(long, value_name = "NAME")]
    image: Vec<Name>,
    /// Read every block instead of a sample
    #[arg(long)]
    deep: bool,
    /// Number of blocks to read from each mirror, also through its public URL
    #[arg(long, default_value_t = 32, value_name = "N")]
    sample: usize,
    /// Replace damaged objects with valid copies from other mirrors
    #[arg(long)]
    repair: bool,
    /// Image to repair blocks from if no mirror has a valid copy; can be repeated
    #[arg(long, value_name = "IMAGE", requires = "repair")]
    seed: Vec<PathBuf>,
    #[command(flatten)]
    wait: super::WaitArgs,
    #[command(flatten)]
    trust: super::TrustArgs,
    #[command(flatten)]
    pub says: super::LongArgs,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mirrors = super::to::mirrors(&args.to)?;
    let mut repository = super::reading(mirrors, &args.to);
    repository.reader = args.trust.reader();
    repository.wait = args.wait.time();
    let policy = args.trust.policy(&repository)?;
    let options = VerifyOptions {
        only: args.mirror,
        images: args.image,
        policy,
        deep: args.deep,
        sample: args.sample,
        repair: args.repair,
        seeds: args.seed,
    };
    let watch = args.says.watch()?;
    let report = super::runtime()?.block_on(publish::verify(&repository, &options, &watch));
    drop(watch);
    let report = report?;
    let code = code(&report);
    if args.says.output.json {
        exit::print_json(&report)?;
    } else if args.says.output.verbosity() != Verbosity::Quiet || code != 0 {
        exit::print_with(|out| write_report(&report, out))?;
    }
    Ok(ExitCode::from(code))
}

/// The exit code. A mirror that is only behind or unreachable has no bad objects; of an image that was left out, nothing
/// is known.
fn code(report: &VerifyReport) -> u8 {
    if report.remaining().any(|problem| problem.kind != ProblemKind::Behind) {
        ErrorKind::Unverified.exit_code()
    } else if report.remaining().count() > 0 || report.unreachable().count() > 0 || !report.unchecked.is_empty() {
        exit::BEHIND
    } else {
        0
    }
}

fn write_report(report: &VerifyReport, out: &mut String) -> std::fmt::Result {
    let shown: Vec<&Problem> = report.problems.iter().filter(|p| p.kind != ProblemKind::Stray).collect();
    shown.iter().take(PROBLEMS_SHOWN).try_for_each(|problem| write_problem(problem, out))?;
    if shown.len() > PROBLEMS_SHOWN {
        writeln!(out, "and {} more (--json has all)", count((shown.len() - PROBLEMS_SHOWN) as u64))?;
    }
    writeln!(out, "{} checked in {:.1} s", report.images.join(", "), report.seconds)?;
    report.mirrors.iter().try_for_each(|mirror| write_mirror(mirror, out))?;
    for image in &report.unchecked {
        writeln!(out, "  not checked: {image} (no key is known for it; --key, or --unsigned)")?;
    }
    Ok(())
}

fn write_problem(problem: &Problem, out: &mut String) -> std::fmt::Result {
    let kind = match problem.kind {
        ProblemKind::Missing => "missing",
        ProblemKind::Truncated => "truncated",
        ProblemKind::Wrong => "wrong",
        ProblemKind::Refused => "refused",
        ProblemKind::Unreadable => "unreadable",
        ProblemKind::Behind => "behind",
        ProblemKind::Stray => "stray",
    };
    let place = if problem.place == Place::Public { " (public URL)" } else { "" };
    let repaired = if problem.repaired { "; repaired" } else { "" };
    writeln!(out, "{kind:<10}  {}{place}  {}  {}{repaired}", problem.mirror, problem.path, problem.what)
}

fn write_mirror(mirror: &Checked, out: &mut String) -> std::fmt::Result {
    write!(out, "  mirror  {}: ", mirror.name)?;
    match mirror.problems {
        0 if mirror.why.is_some() => {}
        0 => write!(out, "all right, ")?,
        1 => write!(out, "1 PROBLEM, ")?,
        n => write!(out, "{} PROBLEMS, ", count(n))?,
    }
    if mirror.repaired > 0 {
        write!(out, "{} repaired, ", count(mirror.repaired))?;
    }
    write!(out, "{} objects checked, {} read whole", count(mirror.objects), count(mirror.read))?;
    write!(out, " ({}) in {:.1} s", bytes(mirror.bytes_read), mirror.seconds)?;
    match &mirror.why {
        Some(why) => writeln!(out, "; NOT REACHED: {why}")?,
        None => writeln!(out)?,
    }
    if mirror.unlisted > 0 {
        writeln!(out, "          {} of them exist, but are missing in its listing", count(mirror.unlisted))?;
    }
    if let Some(strays @ 1..) = mirror.strays {
        let size = bytes(mirror.stray_bytes);
        let them = if strays == 1 { "stray" } else { "strays" };
        writeln!(out, "          {} {them}, {size}: unreferenced objects", count(strays))?;
    }
    Ok(())
}
