//! Selects the command from the command line.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Args;
use crate::device::DeviceArgs;
use crate::fetch::FetchArgs;
use crate::nbd::NbdArgs;
use crate::status::StatusArgs;

/// A parsed command.
#[derive(Debug)]
pub enum Command {
    /// Mount an image.
    Mount(Box<Args>),
    /// Fetch an image into the cache.
    Fetch(Box<FetchArgs>),
    /// Export an image over NBD.
    Nbd(Box<NbdArgs>),
    /// Show the status of a mount.
    Status(StatusArgs),
    /// Make a block device.
    Device(DeviceArgs),
}

impl Command {
    /// Parses the command line. On failure or `--help` it prints the message and returns the exit code.
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
