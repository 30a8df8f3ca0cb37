//! `hfl mirrors`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use hfl::publish::{self, Capabilities, ImageState, MirrorState, ProbeOptions, Verdict};

use crate::exit;
use crate::show::{bytes, count};
use hfl::ErrorKind;

/// Show reachability, latency, versions and store guarantees of each mirror.
#[derive(clap::Args)]
#[command(after_help = "Example:
  hfl mirrors --to mirrors.toml

The guarantees of a store are tested with objects named probe-..., which are removed afterwards:
  create     exclusive creation
  replace    atomic replacement
  swap       conditional replacement; `by lock`: hfl compares and replaces under the lock
  read-back  written objects are readable through the public URL

Exit codes:
  0  all mirrors reachable
  1  local error
  2  usage error
  4  no mirror reachable
  6  some mirrors unreachable")]
pub struct Args {
    /// File that describes the mirrors
    #[arg(long, value_name = "mirrors.toml")]
    to: PathBuf,
    /// Count the objects of each mirror by a listing, which can be slow
    #[arg(long)]
    count: bool,
    /// Write nothing: do not test the guarantees of the stores
    #[arg(long)]
    no_probe: bool,
    #[command(flatten)]
    pub says: super::LongArgs,
}

/// The report.
#[derive(serde::Serialize)]
struct Report {
    mirrors: Vec<MirrorState>,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mirrors = super::to::mirrors(&args.to)?;
    let repository = super::reading(mirrors, &args.to);
    let policy = super::known_keys(&repository);
    let options = ProbeOptions { policy, count: args.count, trials: !args.no_probe };
    let watch = args.says.watch()?;
    let mirrors = super::runtime()?.block_on(publish::probe(&repository, &options, &watch));
    drop(watch);
    let report = Report { mirrors: mirrors? };
    args.says.output.print(&report, |report, out| write_table(&report.mirrors, out))?;
    Ok(match report.mirrors.iter().filter(|m| m.reachable).count() {
        0 => ExitCode::from(ErrorKind::Unreachable.exit_code()),
        n if n < report.mirrors.len() => ExitCode::from(exit::BEHIND),
        _ => ExitCode::SUCCESS,
    })
}

/// Writes the table, with columns as wide as their contents.
fn write_table(states: &[MirrorState], out: &mut String) -> std::fmt::Result {
    let head = ["mirror", "reachable", "latency", "objects", "create", "replace", "swap", "read-back", "images"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(states.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    states.iter().try_for_each(|state| write_notes(state, out))
}

fn row(state: &MirrorState) -> [String; 9] {
    let dash = || "-".to_owned();
    let capability = |of: fn(&Capabilities) -> Option<&Verdict>| {
        state.capabilities.as_ref().and_then(of).map_or_else(dash, |verdict| word(verdict).to_owned())
    };
    // A directory has no conditional replacement of its own; its lock makes up for it.
    let is_directory = !state.write.contains("://");
    let swap = match state.capabilities.as_ref().map(|found| &found.conditional_put) {
        Some(Verdict::No(_)) if is_directory => "by lock".to_owned(),
        verdict => verdict.map_or_else(dash, |verdict| word(verdict).to_owned()),
    };
    let images: Vec<String> = state.images.iter().map(image).collect();
    [
        state.name.clone(),
        if state.reachable { "yes" } else { "NO" }.to_owned(),
        state.latency_ms.map_or_else(dash, |ms| format!("{ms:.1} ms")),
        state.objects.map_or_else(dash, count),
        capability(|c| Some(&c.exclusive_create)),
        capability(|c| Some(&c.atomic_replace)),
        swap,
        capability(|c| c.read_back.as_ref()),
        if images.is_empty() { dash() } else { images.join(", ") },
    ]
}

fn image(image: &ImageState) -> String {
    let version = image.version.map_or_else(|| "none".to_owned(), |version| version.to_string());
    let behind = if image.behind > 0 { format!(" ({} behind)", image.behind) } else { String::new() };
    let unsure = if image.version.is_some() && !image.verified { " (not verified)" } else { "" };
    format!("{} {version}{behind}{unsure}", image.image)
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Yes => "yes",
        Verdict::No(_) => "no",
        Verdict::Unknown(_) => "?",
    }
}

/// Writes the reasons below the table.
fn write_notes(state: &MirrorState, out: &mut String) -> std::fmt::Result {
    if let Some(why) = &state.why {
        writeln!(out, "{}: {why}", state.name)?;
    }
    if let (Some(objects), Some(all)) = (state.objects, state.bytes) {
        writeln!(out, "{}: {} objects, {}", state.name, count(objects), bytes(all))?;
    }
    let Some(found) = &state.capabilities else { return Ok(()) };
    let promises = [
        ("create", Some(&found.exclusive_create)),
        ("replace", Some(&found.atomic_replace)),
        ("swap", Some(&found.conditional_put)),
        ("read-back", found.read_back.as_ref()),
    ];
    for (promise, verdict) in promises {
        if let Some(Verdict::No(why) | Verdict::Unknown(why)) = verdict {
            writeln!(out, "{}: {promise}: {why}", state.name)?;
        }
    }
    if !found.left_behind.is_empty() {
        writeln!(out, "{}: could not be removed again: {}", state.name, found.left_behind.join(", "))?;
    }
    Ok(())
}
