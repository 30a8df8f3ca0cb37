//! `hfl boot try`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hfl::format::name::Version;
use hfl::format::profile::Profile;
use hfl::format::units;
use hfl::qemu::{self, Accelerator, Bootable, Observer, Options, Report, Wire};
use hfl::store::Fetch;
use hfl::system::atomic_file;
use hfl::{Error, ErrorKind, repo};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::super as command;
use crate::exit;
use crate::show::{Verbosity, bytes, count, seconds};
use crate::terminal;

/// Test-boot a published version in QEMU on this machine.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  hfl boot try debian --to mirrors.toml
  hfl boot try debian@41 --to mirrors.toml --serial
  hfl boot try https://mirror.example/hfl/debian --key RWQ... --latency 100ms --rate 6250000
  hfl boot try debian --to mirrors.toml --record boot.profile
  hfl boot try debian --to mirrors.toml -- -drive file=cache.img,if=virtio

The version must have been published with --boot. The machine fetches everything through this program, which reads it \
from the mirrors and writes nothing to them. The boot succeeds when the console shows the text of --until.

Exit codes:
  0  boot succeeded
  1  boot failed, or local error
  2  usage error
  3  verification failed
  4  no mirror reachable")]
pub struct Args {
    #[command(flatten)]
    image: command::image::ImageArgs,
    /// Use this version: an older spelling of NAME@VERSION
    #[arg(long = "version", value_name = "N", id = "image-version", hide = true)]
    version: Option<Version>,
    #[command(flatten)]
    trust: command::TrustArgs,
    /// Console output that shows that the machine is up
    #[arg(long, value_name = "TEXT", default_value = MARKER)]
    until: String,
    /// Time limit for the boot, such as 90s or 10m
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = units::time)]
    timeout: Duration,
    /// Show the console of the machine on standard error
    #[arg(long, conflicts_with = "quiet")]
    serial: bool,
    /// Record the blocks that the boot reads, in order, as a profile for hfl publish --profile
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Words to append to the kernel command line
    #[arg(long, value_name = "WORDS", default_value = "", hide_default_value = true, allow_hyphen_values = true)]
    append: String,
    /// Memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = MEMORY_MIB, value_parser = clap::value_parser!(u32).range(64..=1_048_576))]
    memory: u32,
    /// Number of processors
    #[arg(long, value_name = "N", default_value_t = PROCESSORS, value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,
    /// Accelerator: kvm, tcg (emulation), or auto (kvm if it works)
    #[arg(
        long,
        value_name = "auto|kvm|tcg",
        default_value = "auto",
        value_parser = ["auto", "kvm", "tcg"],
        hide_possible_values = true
    )]
    accel: String,
    /// Delay added to each request, such as 100ms
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    latency: Option<Duration>,
    /// Maximum transfer rate per second: bytes, or with K, M, G; 6250000 is 50 Mbit/s
    #[arg(long, value_name = "BYTES", value_parser = units::rate)]
    rate: Option<u64>,
    #[command(flatten)]
    pub output: command::OutputArgs,
    /// Additional options of QEMU, such as disks
    #[arg(last = true, value_name = "QEMU OPTIONS")]
    qemu: Vec<OsString>,
}

/// Console output of a machine that waits for a login.
const MARKER: &str = "login:";
/// Time limit for a machine with an emulated processor.
const TIMEOUT: Duration = Duration::from_secs(600);
const MEMORY_MIB: u32 = 1024;
const PROCESSORS: u32 = 2;

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(path) = &args.record {
        atomic_file::check_output(path).map_err(|e| Error::io(path, &e))?;
    }
    let cancel = command::cancel_on_signal()?;
    let options = args.options();
    let view = View::new(args.serial, args.output.verbosity());
    let (report, profile) = command::runtime()?.block_on(async {
        let image = args.image.image(args.version)?;
        let stores = image.stores().await?;
        let opened = repo::open(&stores, &args.trust.options(&image.name)?.version(image.version)).await?;
        command::warn_of(&image.name, &opened.warnings);
        let version = Bootable::load(&stores, opened).await?;
        anyhow::Ok(qemu::boot(&version, &stores, &options, &view, &cancel).await?)
    })?;
    drop(view);
    if let (Some(path), Some(profile), true) = (&args.record, &profile, report.reached) {
        atomic_file::replace(path, &profile.to_bytes()).map_err(|e| Error::io(path, &e))?;
    }
    if args.output.json {
        exit::print_json(&report)?;
    } else if !args.output.quiet || !report.reached {
        exit::print_with(|out| write_report(&report, args.record.as_deref(), args.serial, out))?;
    }
    Ok(if report.reached { ExitCode::SUCCESS } else { ExitCode::from(ErrorKind::Local.exit_code()) })
}

/// Boots a newly published version, as `hfl boot try --record` does.
///
/// # Errors
/// Errors of the trial; a machine that does not come up.
pub async fn try_published(
    version: &Bootable,
    stores: &[Arc<dyn Fetch>],
    verbosity: Verbosity,
    cancel: &AtomicBool,
) -> anyhow::Result<(Report, Profile)> {
    let options = Options {
        marker: MARKER.to_owned(),
        timeout: TIMEOUT,
        accelerator: None,
        memory_mib: MEMORY_MIB,
        processors: PROCESSORS,
        append: String::new(),
        qemu: Vec::new(),
        wire: Wire::default(),
        record: true,
    };
    match qemu::boot(version, stores, &options, &View::new(false, verbosity), cancel).await? {
        (report, Some(profile)) if report.reached => Ok((report, profile)),
        (report, _) => {
            let (name, why) = (version.image(), report.why.unwrap_or_default());
            let error = format!("{name} version {} is published, but it does not come up: {why}", report.version);
            let hint = format!("watch it with hfl boot try {name} --serial, or undo it with hfl rollback");
            Err(Error::local(error).hint(hint).into())
        }
    }
}

impl Args {
    fn options(&self) -> Options {
        Options {
            marker: self.until.clone(),
            timeout: self.timeout,
            accelerator: match self.accel.as_str() {
                "kvm" => Some(Accelerator::Kvm),
                "tcg" => Some(Accelerator::Tcg),
                _ => None,
            },
            memory_mib: self.memory,
            processors: self.cpus,
            append: self.append.clone(),
            qemu: self.qemu.clone(),
            wire: Wire { latency: self.latency.unwrap_or_default(), rate: self.rate },
            record: self.record.is_some(),
        }
    }
}

/// Progress on standard error: the console, or its last line on a terminal.
struct View {
    bar: ProgressBar,
    serial: bool,
    verbosity: Verbosity,
    started: Instant,
    /// When a line was printed last.
    said: Mutex<Instant>,
}

/// Interval of lines where there is no terminal.
const SAID_EVERY: Duration = Duration::from_secs(10);

impl View {
    fn new(serial: bool, verbosity: Verbosity) -> Self {
        let shows_bar = !serial && verbosity != Verbosity::Quiet && terminal::is_drawable();
        let target = if shows_bar { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{elapsed} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, serial, verbosity, started: Instant::now(), said: Mutex::new(Instant::now()) }
    }

    /// Prints a line, if nothing is drawn.
    fn say(&self, text: &str) {
        if self.verbosity == Verbosity::Verbose || (self.verbosity != Verbosity::Quiet && self.bar.is_hidden()) {
            // A standard error stream that cannot be written to is ignored.
            self.bar.suspend(|| drop(writeln!(io::stderr(), "hfl: {text}")));
        }
    }

    /// Prints the last line of the console now and then, where nothing is drawn.
    fn say_console(&self, line: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if self.bar.is_hidden() && said.elapsed() >= SAID_EVERY {
            *said = Instant::now();
            self.say(&format!("{}: {line}", seconds(self.started.elapsed())));
        }
    }
}

impl Observer for View {
    fn console(&self, text: &str) {
        if self.serial {
            // A standard error stream that cannot be written to is ignored.
            let _ = io::stderr().write_all(text.as_bytes());
        } else if let Some(line) = text.lines().rfind(|line| !line.trim().is_empty()) {
            let line: String = line.chars().filter(|c| !c.is_control()).collect();
            self.say_console(&line);
            self.bar.set_message(line);
        }
    }

    fn step(&self, text: &str) {
        self.say(text);
        self.bar.set_message(text.to_owned());
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Writes the result of a boot.
fn write_report(r: &Report, record: Option<&Path>, serial: bool, out: &mut String) -> std::fmt::Result {
    let on = format!("{} version {} on {} ({})", r.image, r.version, r.machine, r.accelerator);
    match &r.why {
        None => writeln!(out, "{on}: `{}` after {:.1} s", r.marker, r.seconds)?,
        Some(why) => writeln!(out, "{on} did not come up: {why}")?,
    }
    if let Some(root) = r.root_seconds {
        writeln!(out, "  root     after {root:.1} s")?;
    }
    let f = &r.fetched;
    writeln!(out, "  fetched  {} in {} requests", bytes(f.bytes), count(f.requests))?;
    writeln!(out, "  blocks   {}, {}", count(f.blocks), bytes(f.block_bytes))?;
    writeln!(out, "  loaded   kernel {}, miniroot {}", bytes(r.kernel_bytes), bytes(r.miniroot_bytes))?;
    match (record, r.profile_blocks, r.reached) {
        (Some(path), Some(blocks), true) => {
            let path = path.display();
            writeln!(out, "  profile  {path}: {} blocks (ship it: hfl publish --profile {path})", count(blocks))?;
        }
        (Some(path), _, _) => writeln!(out, "  profile  none; {} is left alone", path.display())?,
        _ => {}
    }
    if !r.reached && !serial && !r.console.is_empty() {
        writeln!(out, "last output of the console:")?;
        r.console.iter().try_for_each(|line| writeln!(out, "  | {line}"))?;
    }
    Ok(())
}
