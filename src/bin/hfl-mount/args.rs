//! The command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use hfl::mount::network::Mode;
use hfl::name::Version;
use hfl::read::source::{Base, Source};

use crate::status::StatusArgs;

const EXAMPLES: &str = "\
Examples:
  hfl-mount --key RWQ...  https://mirror.example/hfl/debian-ps3 /mnt/hfl
  mount -o loop,ro /mnt/hfl/debian-ps3 /mnt/root
  hfl-mount status /mnt/hfl
  umount /mnt/root /mnt/hfl

Exit codes: 0 done, 1 local error, 2 usage, 3 something did not verify, 4 no mirror reachable";

/// Mounts an image: MOUNTPOINT/NAME is then a read-only file of the image's exact size, whose blocks are fetched,
/// checked and cached when somebody reads them.
#[derive(Debug, Parser)]
#[command(name = "hfl-mount", version, disable_version_flag = true, after_help = EXAMPLES)]
pub struct Args {
    /// Where the image is: http(s)://HOST/PATH/NAME or DIRECTORY/NAME; several are tried in turn
    #[arg(required = true, num_args = 1.., value_name = "SOURCE")]
    pub sources: Vec<Source>,
    /// An empty directory
    #[arg(required = true, value_name = "MOUNTPOINT")]
    pub mountpoint: PathBuf,
    /// The publisher's public key: its one line of base64, or a file that holds it
    #[arg(long, value_name = "PUBKEY", required_unless_present = "unsigned")]
    pub key: Option<String>,
    /// Accept whatever the mirrors say, signed or not
    #[arg(long, conflicts_with = "key")]
    pub unsigned: bool,
    /// Mount this version instead of the newest
    #[arg(long = "version", value_name = "N", id = "image-version")]
    pub version: Option<Version>,
    /// Where blocks are cached [default: $XDG_CACHE_HOME/hfl, for root /var/cache/hfl]
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache")]
    pub cache: Option<PathBuf>,
    /// The most the cache may hold: bytes, or with K, M, G, T
    #[arg(long, value_name = "BYTES", default_value = "4G", value_parser = bytes)]
    pub cache_size: u64,
    /// Cache nothing on disk
    #[arg(long)]
    pub no_cache: bool,
    /// Decoded blocks in memory: bytes, or with K, M, G
    #[arg(long, value_name = "BYTES", default_value = "20M", value_parser = bytes)]
    pub memory: u64,
    /// Further mirrors: a file of base URLs, one a line; SOURCE may then be the image's name alone
    #[arg(long, value_name = "FILE")]
    pub mirrors: Option<PathBuf>,
    /// Go through this proxy: http(s)://[USER:PASSWORD@]HOST:PORT [default: http_proxy, https_proxy and no_proxy]
    #[arg(long, value_name = "URL")]
    pub proxy: Option<String>,
    /// What becomes of a read that no mirror answers: `soft` lets it fail after --timeout, `hard` waits
    #[arg(long = "mode", value_name = "MODE", default_value = "soft")]
    mode: ModeName,
    /// In soft mode, the seconds after which such a read fails
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u32).range(1..))]
    timeout: u32,
    /// Show the status to Prometheus on this address
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,
    /// Go into the background once the mount works; the default
    #[arg(long)]
    daemon: bool,
    /// Stay in the foreground
    #[arg(long, short, conflicts_with = "daemon")]
    pub foreground: bool,
    /// Append messages to this file once in the background
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Say more
    #[arg(long, short)]
    pub verbose: bool,
    /// Say nothing but errors
    #[arg(long, short, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print an error as a JSON object
    #[arg(long)]
    pub json: bool,
    /// Print this program's version
    #[arg(short = 'V', action = clap::ArgAction::Version)]
    program_version: (),
    /// No readahead, one block fetched and decoded at a time: for measurements
    #[arg(long, hide = true)]
    pub one_at_a_time: bool,
}

/// The names of the modes.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ModeName {
    Hard,
    Soft,
}

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    /// Mount an image.
    Mount(Box<Args>),
    /// Show the status of a mount.
    Status(StatusArgs),
}

impl Command {
    /// Reads the command line; otherwise the code to leave with, everything having been said.
    pub fn read() -> Result<Self, ExitCode> {
        let words: Vec<OsString> = std::env::args_os().collect();
        let parsed = match words.get(1).and_then(|word| word.to_str()) {
            Some("status") => StatusArgs::try_parse_from(&words[1..]).map(Self::Status),
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
    /// What becomes of reads that no mirror answers.
    pub fn mode(&self) -> Mode {
        match self.mode {
            ModeName::Hard => Mode::Hard,
            ModeName::Soft => Mode::Soft(Duration::from_secs(self.timeout.into())),
        }
    }

    /// Whether a source only names the image, and the list of mirrors says where it is.
    pub fn names_alone(&self, source: &Source) -> bool {
        self.mirrors.is_some() && matches!(&source.base, Base::Directory(path) if path.as_os_str() == ".")
    }

    fn check(self) -> Result<Self, clap::Error> {
        let first = &self.sources[0].image;
        match self.sources.iter().find(|source| source.image != *first) {
            None => Ok(self),
            Some(other) => {
                let why = format!("the sources name different images, `{first}` and `{}`\n", other.image);
                Err(clap::Error::raw(clap::error::ErrorKind::ValueValidation, why))
            }
        }
    }
}

/// Reads whole numbers with a binary unit: `4096`, `512M`, `4G`.
fn bytes(text: &str) -> Result<u64, String> {
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
