//! `hfl-mount device`: the block devices for a root file system on a mounted image. For the miniroot of a boot; losetup
//! and dmsetup do the same.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use hfl::Error;
use hfl::client::device::loops::{self, LoopOptions};
use hfl::client::device::mapper;

const AFTER: &str = "\
Example, as in the miniroot of hfl boot build:
  origin=$(hfl-mount device loop --direct /hfl/fs/debian)
  truncate -s 2G /run/writes
  store=$(hfl-mount device loop --write /run/writes)
  mount $(hfl-mount device snapshot root $origin $store) /mnt

To undo it:
  umount /mnt
  hfl-mount device remove root
  hfl-mount device detach $origin $store";

/// Create loop devices and snapshots, and print their paths; remove them
#[derive(Debug, Parser)]
#[command(name = "device", after_help = AFTER)]
pub struct DeviceArgs {
    #[command(subcommand)]
    wanted: Wanted,
}

#[derive(Debug, Subcommand)]
enum Wanted {
    /// Create a loop device of a file, read-only without --write
    #[command(after_help = "Example:\n  hfl-mount device loop --direct /hfl/fs/debian")]
    Loop {
        /// File behind the device
        file: PathBuf,
        /// Make the device writable
        #[arg(long)]
        write: bool,
        /// Use direct I/O, bypassing the page cache: for a file of a mounted image
        #[arg(long)]
        direct: bool,
        /// Offset of the device in the file, a multiple of 512
        #[arg(long, value_name = "BYTES", default_value_t = 0)]
        offset: u64,
        /// Size of the device, a multiple of 512 [default: up to the end of the file]
        #[arg(long, value_name = "BYTES", default_value_t = 0, hide_default_value = true)]
        size: u64,
    },
    /// Create a writable snapshot of a device; writes go to STORE and persist there
    #[command(after_help = "Example:\n  hfl-mount device snapshot root /dev/loop0 /dev/loop1")]
    Snapshot {
        /// Name of the snapshot
        name: String,
        /// Block device to take a snapshot of
        origin: PathBuf,
        /// Block device that begins with zeros, or with an earlier snapshot of the same origin
        store: PathBuf,
    },
    /// Print the usage of a snapshot's store: USED/TOTAL METADATA in sectors, or Overflow, or Invalid
    #[command(after_help = "Example:\n  hfl-mount device status root")]
    Status {
        /// Name of the snapshot
        name: String,
    },
    /// Remove an unused snapshot; its store keeps the writes
    #[command(after_help = "Example:\n  hfl-mount device remove root")]
    Remove {
        /// Name of the snapshot
        name: String,
    },
    /// Detach unused loop devices
    #[command(after_help = "Example:\n  hfl-mount device detach /dev/loop0 /dev/loop1")]
    Detach {
        /// Loop devices
        #[arg(required = true)]
        devices: Vec<PathBuf>,
    },
}

/// Runs the command, and prints the path of the new device, or the status.
pub fn run(args: &DeviceArgs) -> Result<(), Error> {
    let path = |path: PathBuf| Some(path.display().to_string());
    let said = match &args.wanted {
        &Wanted::Loop { ref file, write, direct, offset, size } => {
            loops::attach(file, LoopOptions { write, direct, offset, size, ..LoopOptions::default() }).map(path)
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
