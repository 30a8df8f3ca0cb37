//! The command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::boot::BootArgs;
use crate::device::DeviceArgs;
use crate::fetch::FetchArgs;
use crate::nbd::NbdArgs;
use crate::origin::Origin;
use crate::status::StatusArgs;

const EXAMPLES: &str = "\
Examples:
  hfl-mount --key RWQ...  https://mirror.example/hfl/debian-ps3 /mnt/hfl
  mount -o loop,ro /mnt/hfl/debian-ps3 /mnt/root
  hfl-mount status /mnt/hfl
  hfl-mount fetch --key RWQ... https://mirror.example/hfl/debian-ps3
  hfl-mount nbd --key RWQ... https://mirror.example/hfl/debian-ps3 --socket /run/hfl.sock      (see hfl-mount nbd --help)
  hfl-mount device --help                         loop devices and snapshots, for a miniroot
  umount /mnt/root /mnt/hfl

Exit codes: 0 done, 1 local error, 2 usage, 3 something did not verify, 4 no mirror reachable";

/// Mounts an image: MOUNTPOINT/NAME is then a read-only file of the image's exact size, whose blocks are fetched,
/// checked and cached when somebody reads them.
#[derive(Debug, Parser)]
#[command(name = "hfl-mount", version, disable_version_flag = true, after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    pub origin: Origin,
    /// An empty directory
    #[arg(required = true, value_name = "MOUNTPOINT")]
    pub mountpoint: PathBuf,
    /// Cache nothing on disk: the same as --cache none
    #[arg(long, conflicts_with = "cache")]
    pub no_cache: bool,
    /// Blocks in memory, those on their way included: bytes, or with K, M, G
    #[arg(long, value_name = "BYTES", default_value = "20M", value_parser = bytes)]
    pub memory: u64,
    /// Fetch nothing because it comes next; a profile's blocks are still fetched ahead
    #[arg(long)]
    pub no_readahead: bool,
    #[command(flatten)]
    pub boot: BootArgs,
    /// Hold a root file system: hard mode, all memory locked, out of reach of the out-of-memory killer, SIGTERM and SIGHUP
    /// ignored; ends when it is unmounted
    #[arg(long, conflicts_with = "mode")]
    pub root: bool,
    /// Show the status to Prometheus on this address
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,
    /// Go into the background once the mount works; the default
    #[arg(long)]
    pub daemon: bool,
    /// Stay in the foreground
    #[arg(long, short, conflicts_with = "daemon")]
    pub foreground: bool,
    /// Append messages to this file once in the background
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Print this program's version
    #[arg(short = 'V', action = clap::ArgAction::Version)]
    program_version: (),
    /// No readahead, one block fetched and decoded at a time: for measurements
    #[arg(long, hide = true)]
    pub one_at_a_time: bool,
}

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    /// Mount an image.
    Mount(Box<Args>),
    /// Fetch an image into the cache.
    Fetch(Box<FetchArgs>),
    /// Show it to those who speak NBD.
    Nbd(Box<NbdArgs>),
    /// Show the status of a mount.
    Status(StatusArgs),
    /// Make a block device.
    Device(DeviceArgs),
}

impl Command {
    /// Reads the command line; otherwise the code to leave with, everything having been said.
    pub fn read() -> Result<Self, ExitCode> {
        let words: Vec<OsString> = std::env::args_os().collect();
        let parsed = match words.get(1).and_then(|word| word.to_str()) {
            Some("nbd") => NbdArgs::read(&words[1..]).map(|args| Self::Nbd(Box::new(args))),
            Some("status") => StatusArgs::try_parse_from(&words[1..]).map(Self::Status),
            Some("device") => DeviceArgs::try_parse_from(&words[1..]).map(Self::Device),
            Some("fetch") => FetchArgs::try_parse_from(&words[1..])
                .and_then(|args| args.origin.check().map(|()| Self::Fetch(Box::new(args)))),
            _ => Args::try_parse_from(&words).and_then(Args::check).map(|args| Self::Mount(Box::new(args))),
        };
        parsed.map_err(|e| {
            if e.use_stderr() {
                eprint!("hfl-mount: {}", e.render());
                return ExitCode::from(2);
            }
            let _ = e.print();
            ExitCode::SUCCESS
        })
    }
}

impl Args {
    /// Finds what clap cannot. Whoever holds a root file system waits for its mirrors.
    pub fn check(mut self) -> Result<Self, clap::Error> {
        self.origin.check()?;
        if self.root {
            self.origin.wait();
        }
        Ok(self)
    }
}

/// Reads whole numbers with a binary unit: `4096`, `512M`, `4G`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text[digits.len()..].trim_end_matches("iB").to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        unit => return Err(format!("unknown unit `{unit}`, expected K, M, G or T")),
    };
    let number: u64 = digits.parse().map_err(|_| "expected a number like 4096, 512M or 4G".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".into())
}
