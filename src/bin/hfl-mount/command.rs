//! The command line: which of the commands is meant.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Args;
use crate::device::DeviceArgs;
use crate::fetch::FetchArgs;
use crate::nbd::NbdArgs;
use crate::status::StatusArgs;

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
