//! The command line of a mount.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use hfl::Error;
use hfl::client::ClientOptions;
use hfl::client::cache::Need;
use hfl::format::units::{self, bytes};

use crate::exit::CODES;
use crate::origin::ImageArgs;
use crate::profile::ProfileArgs;

/// Least memory for blocks, in bytes.
const MEMORY_MIN: u64 = 1 << 20;
const EXAMPLES: &str = "\
Examples:
  hfl-mount --key RWQ... https://mirror.example/hfl/debian-ps3 /mnt/hfl
  hfl-mount --key RWQ... https://mirror.example/hfl/debian-ps3@41 /mnt/hfl
  mount -o loop,ro /mnt/hfl/debian-ps3 /mnt/root
  hfl-mount status /mnt/hfl
  hfl-mount fetch --key RWQ... https://mirror.example/hfl/debian-ps3
  hfl-mount nbd --key RWQ... https://mirror.example/hfl/debian-ps3 --socket /run/hfl.sock
  umount /mnt/root /mnt/hfl

Each option can also be given as `-o NAME[=VALUE],...`, as a variable HFL_MOUNT_NAME, or in /etc/hfl/IMAGE.toml, in this \
order of precedence. With `source = \"https://...\"` in that file, the image's name alone is enough:
  mount -t hfl debian-ps3 /mnt";

/// Mount an image: MOUNTPOINT/NAME is a read-only file of the image's exact size, whose blocks are fetched, verified
/// and cached when they are read
#[derive(Debug, Parser)]
#[command(name = "hfl-mount", version = hfl::build_info::text(), disable_version_flag = true, after_help = format!("{EXAMPLES}\n\n{CODES}"))]
pub struct Args {
    #[command(flatten)]
    pub origin: ImageArgs,
    /// Mount point: an empty directory
    #[arg(required = true, value_name = "MOUNTPOINT")]
    pub mountpoint: PathBuf,
    /// Disable the disk cache: the same as --cache none
    #[arg(long, conflicts_with = "cache")]
    pub no_cache: bool,
    /// Memory for blocks, including those in transfer: bytes, or with K, M, G, T
    #[arg(long, value_name = "BYTES", default_value = "20M", value_parser = some_memory)]
    pub memory: u64,
    /// Disable readahead; the blocks of a profile are still prefetched
    #[arg(long)]
    pub no_readahead: bool,
    #[command(flatten)]
    pub profile: ProfileArgs,
    /// Serve a root file system: hard mode, memory locked, exempt from the out-of-memory killer, signals such as
    /// SIGTERM and SIGHUP ignored; ends when it is unmounted
    #[arg(long, conflicts_with = "mode")]
    pub root: bool,
    /// Look so often whether there is a newer version, for the status and the log; `off` for never
    #[arg(long, value_name = "TIME|off", default_value = "1h", value_parser = pause)]
    pub look_for_newer: Pause,
    /// Serve metrics for Prometheus at this address
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,
    /// Go into the background once the mount works (default)
    #[arg(long)]
    pub daemon: bool,
    /// Stay in the foreground
    #[arg(long, short, conflicts_with = "daemon")]
    pub foreground: bool,
    /// Append messages to this file while in the background
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Mount the file system in the image on MOUNTPOINT, not the image as a file; `umount MOUNTPOINT` undoes all of it
    #[arg(long)]
    pub contents: bool,
    /// With --contents: mount this partition of the image
    #[arg(long, value_name = "N", requires = "contents", value_parser = clap::value_parser!(u32).range(1..))]
    pub partition: Option<u32>,
    /// With --contents: type of the file system [default: found out by mount(8)]
    #[arg(long, value_name = "TYPE", requires = "contents")]
    pub fstype: Option<String>,
    /// Options as in fstab: those of hfl-mount without `--`, those of mount(8); with --contents, also those of the file
    /// system
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub options: Vec<String>,
    /// Print the version of hfl-mount, with commit, features and target; the same as --version
    #[arg(short = 'V', action = clap::ArgAction::Version)]
    program_version: (),
    /// Disable readahead, and fetch and decode one block at a time: for measurements
    #[arg(long, hide = true)]
    pub one_at_a_time: bool,
}

/// The time between two looks, if there are any.
#[derive(Debug, Clone, Copy)]
pub struct Pause(Option<Duration>);

/// At least one block of the usual sizes.
fn some_memory(text: &str) -> Result<u64, String> {
    bytes(text).and_then(|bytes| if bytes < MEMORY_MIN { Err("at least 1M".into()) } else { Ok(bytes) })
}

fn pause(text: &str) -> Result<Pause, String> {
    match text {
        "off" => Ok(Pause(None)),
        _ => match units::time(text) {
            Ok(time) if time >= Duration::from_secs(1) => Ok(Pause(Some(time))),
            Ok(_) => Err("at least one second, or off".into()),
            Err(e) => Err(format!("{e}, or off")),
        },
    }
}

impl Args {
    /// The image to mount and the settings of the client.
    ///
    /// # Errors
    /// A key, a profile or a file of mirrors that cannot be used.
    pub fn client_options(&self) -> Result<ClientOptions, Error> {
        let need = if self.root { Need::None } else { Need::Meant };
        Ok(ClientOptions {
            cache: self.origin.cache_options(need).filter(|_| !self.no_cache),
            memory_bytes: self.memory,
            readahead: !self.no_readahead,
            one_at_a_time: self.one_at_a_time,
            holds_root: self.root,
            look_for_newer: self.look_for_newer.0,
            profile: self.profile.options()?,
            ..self.origin.client_options()?
        })
    }

    /// Checks what clap cannot. With `--root`, reads wait for the mirrors.
    pub fn check(mut self) -> Result<Self, clap::Error> {
        self.origin.check()?;
        if self.root {
            self.origin.wait();
        }
        Ok(self)
    }
}
