//! `hfl-mount device`: the block devices for a root file system on a mounted image. For the miniroot of a boot; losetup
//! and dmsetup do the same.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use hfl::Error;
use hfl::client::device::loops::{self, LoopOptions};
use hfl::client::device::mapper;

const AFTER: &str = "\
Example, what the miniroot of `hfl boot` does:
  origin=$(hfl-mount device loop --direct /hfl/fs/debian)
  truncate -s 2G /run/writes; store=$(hfl-mount device loop --write /run/writes)
  mount $(hfl-mount device snapshot root $origin $store) /mnt
And back: umount /mnt; hfl-mount device remove root; hfl-mount device detach $origin $store";

/// Makes block devices, and prints where they are; takes them away again
#[derive(Debug, Parser)]
#[command(name = "hfl-mount device", bin_name = "hfl-mount device", after_help = AFTER)]
pub struct DeviceArgs {
    #[command(subcommand)]
    wanted: Wanted,
}

#[derive(Debug, Subcommand)]
enum Wanted {
    /// A loop device of a file, read-only unless --write is said
    Loop {
        file: PathBuf,
        /// It can be written to
        #[arg(long)]
        write: bool,
        /// Pass the page cache by: right for a mounted image
        #[arg(long)]
        direct: bool,
        /// Where in the file it begins, in bytes
        #[arg(long, value_name = "BYTES", default_value_t = 0)]
        offset: u64,
        /// How many bytes of it, a multiple of 512 [default: all up to the end]
        #[arg(long, value_name = "BYTES", default_value_t = 0, hide_default_value = true)]
        size: u64,
    },
    /// A writable snapshot of a device; what is written goes to STORE, and is found there again
    Snapshot {
        name: String,
        origin: PathBuf,
        /// A block device that begins with zeros or with an earlier snapshot of the same origin
        store: PathBuf,
    },
    /// How full a snapshot's store is: sectors used/there, of tables; or Overflow, or Invalid
    Status { name: String },
    /// Take a snapshot away that nobody uses any more; its store keeps what was written
    Remove { name: String },
    /// Take loop devices away that nobody uses any more
    Detach {
        #[arg(required = true)]
        devices: Vec<PathBuf>,
    },
}

/// Runs the command, and prints the path of the new device, or the status.
pub fn run(args: &DeviceArgs) -> Result<(), Error> {
    let path = |path: PathBuf| Some(path.display().to_string());
    let said = match &args.wanted {
        &Wanted::Loop { ref file, write, direct, offset, size } => {
            loops::attach(file, LoopOptions { write, direct, offset, size }).map(path)
        }
        Wanted::Snapshot { name, origin, store } => mapper::snapshot(name, origin, store).map(path),
        Wanted::Status { name } => mapper::status(name).map(Some),
        Wanted::Remove { name } => mapper::remove(name).map(|()| None),
        Wanted::Detach { devices } => devices.iter().try_for_each(|device| loops::detach(device)).map(|()| None),
    };
    match said? {
        Some(said) => writeln!(std::io::stdout(), "{said}"),
        None => Ok(()),
    }
    .map_err(|e| Error::local(format!("cannot print: {e}")))
}
