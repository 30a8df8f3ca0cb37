//! `hfl-mount status MOUNTPOINT`: what a mount has done so far, and the health of its mirrors.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use hfl::Error;
use hfl::client::device::contents::file_behind;
use hfl::client::serve::STATUS_FILE;
use serde_json::Value;

/// A longer file is not a status.
const STATUS_MAX_BYTES: u64 = 1 << 20;
const WATCH_PAUSE: Duration = Duration::from_secs(2);
/// Clears a terminal and moves to its top.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Show the status of a mount: reads, fetched blocks, caches, and the health of its mirrors
#[derive(Debug, Parser)]
#[command(
    name = "status",
    after_help = "Examples:
  hfl-mount status /mnt/hfl
  hfl-mount status /mnt/hfl --json | jq .mirrors"
)]
pub struct StatusArgs {
    /// Mount point of the image
    mountpoint: PathBuf,
    /// Print the status as JSON
    #[arg(long)]
    pub json: bool,
    /// Print the status every two seconds
    #[arg(long)]
    watch: bool,
}

/// Prints the status, once or repeatedly.
pub fn run(args: &StatusArgs) -> Result<(), Error> {
    loop {
        let status = read(&args.mountpoint)?;
        let text = match args.json {
            true if args.watch => format!("{status}\n"),
            true => format!("{status:#}\n"),
            false if args.watch => format!("{CLEAR}{}", render(&status)),
            false => render(&status),
        };
        let mut out = std::io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // The reader of the output has closed it.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            printed => printed.map_err(|e| Error::local(format!("cannot print: {e}")))?,
        }
        if !args.watch {
            return Ok(());
        }
        std::thread::sleep(WATCH_PAUSE);
    }
}

fn read(point: &Path) -> Result<Value, Error> {
    let none = |why: &dyn std::fmt::Display| {
        let failure = Error::local(format!("{}: no image is mounted here{why}", point.display()));
        failure.hint("give the MOUNTPOINT that was given to hfl-mount")
    };
    let mut text = String::new();
    // Where the file system in an image is mounted, the image itself is elsewhere.
    let behind = file_behind(point).and_then(|file| file.parent().map(Path::to_owned));
    let file = match std::fs::File::open(behind.as_deref().unwrap_or(point).join(STATUS_FILE)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(none(&"")),
        file => file.map_err(|e| none(&format_args!(": {e}")))?,
    };
    file.take(STATUS_MAX_BYTES).read_to_string(&mut text).map_err(|e| none(&format_args!(": {e}")))?;
    serde_json::from_str(&text).map_err(|e| none(&format_args!(": {STATUS_FILE}: {e}")))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// A size in bytes, in short form.
fn bytes(value: &Value) -> String {
    let bytes = value.as_f64().unwrap_or_default();
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (0..units.len() - 1).find(|&p| bytes < 1000.0 * 1024f64.powi(p as i32)).unwrap_or(units.len() - 1);
    let digits = if power == 0 { 0 } else { 1 };
    format!("{:.digits$} {}", bytes / 1024f64.powi(power as i32), units[power])
}

fn time(value: &Value) -> String {
    let seconds = number(value);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Text form: a few lines, then one per mirror.
fn render(status: &Value) -> String {
    let of = |key: &str| number(&status[key]);
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} version {}, published {} ago, {}; mounted for {}, {} mode",
        status["image"].as_str().unwrap_or_default(),
        of("version"),
        time(&status["age_s"]),
        bytes(&status["size"]),
        time(&status["mounted_s"]),
        status["mode"].as_str().unwrap_or_default(),
    );
    if of("newer_version") > 0 {
        let (version, cost) = (of("newer_version"), bytes(&status["newer_download_bytes"]));
        let with = &status["newer_download_bytes_with_deltas"];
        let with = if with.is_null() { String::new() } else { format!(", {} with deltas", bytes(with)) };
        let _ = writeln!(text, "newer     version {version}: {cost} to download{with}");
    }
    let (reads, read) = (of("reads"), bytes(&status["read_bytes"]));
    let _ =
        writeln!(text, "reads     {reads} ({read}), {} waiting, {} failed", of("reads_waiting"), of("reads_failed"));
    let (blocks, fetched) = (of("fetched_blocks"), bytes(&status["fetched_bytes"]));
    let (flight, hedged) = (of("in_flight"), of("hedged"));
    let _ =
        writeln!(text, "network   {blocks} blocks ({fetched}), {flight} in flight, {hedged} asked of a second mirror");
    if of("delta_blocks") > 0 {
        let (size, saved) = (bytes(&status["delta_bytes"]), bytes(&status["delta_saved_bytes"]));
        let _ = writeln!(text, "deltas    {} of these blocks ({size}), {saved} saved", of("delta_blocks"));
    }
    let (disk, healed) = (bytes(&status["disk_bytes"]), of("disk_healed"));
    let _ = writeln!(text, "disk      {} blocks ({disk}), {healed} bad files dropped", of("disk_blocks"));
    if of("profile_blocks") > 0 {
        let (fetched, read) = (of("profile_fetched_blocks"), bytes(&status["profile_fetched_bytes"]));
        let (blocks, left) = (of("profile_blocks"), of("profile_left"));
        let _ = writeln!(text, "profile   {blocks} blocks, {fetched} fetched ahead ({read}), {left} still to fetch");
    }
    let held = bytes(&status["ram_bytes_held"]);
    let _ = writeln!(text, "memory    {} blocks, {held} held", of("ram_blocks"));
    status["mirrors"].as_array().into_iter().flatten().for_each(|mirror| text.push_str(&line(mirror)));
    text
}

fn line(mirror: &Value) -> String {
    let of = |key: &str| number(&mirror[key]);
    let usual = mirror["usual_ms"].as_f64().map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
    let rate = match mirror["bytes_per_s"].as_f64() {
        Some(_) => format!("{}/s", bytes(&mirror["bytes_per_s"])),
        None => "-".to_owned(),
    };
    let state = match mirror["quarantine_left_s"].as_u64() {
        Some(left) => format!("quarantined for {left} s"),
        None => mirror["state"].as_str().unwrap_or_default().to_owned(),
    };
    let url = mirror["url"].as_str().unwrap_or_default();
    let why = mirror["why"].as_str().map_or_else(String::new, |why| format!("\n    last failure: {why}"));
    format!(
        "{:>3} {url}\n    {state}; {usual} to a block, {rate}; {} blocks ({}), {} failures, {} times overtaken{why}\n",
        of("rank"),
        of("blocks"),
        bytes(&mirror["bytes"]),
        of("failures"),
        of("overtaken"),
    )
}
