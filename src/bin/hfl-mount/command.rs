//! Selects the command from the command line, the environment and the configuration of the image.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};

use crate::args::Args;
use crate::device::DeviceArgs;
use crate::fetch::FetchArgs;
use crate::helper;
use crate::nbd::{self, NbdArgs};
use crate::settings;
use crate::status::StatusArgs;
#[cfg(feature = "manual")]
use crate::texts;

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
    /// Print the completions of a shell, or write the manual pages.
    #[cfg(feature = "manual")]
    Texts(texts::TextArgs),
}

/// The whole command line.
pub fn tree() -> clap::Command {
    let tree = Args::command()
        .args_conflicts_with_subcommands(true)
        .subcommand_negates_reqs(true)
        .subcommand_value_name("COMMAND")
        .subcommand_help_heading("Other commands")
        .subcommand(StatusArgs::command())
        .subcommand(FetchArgs::command())
        .subcommand(nbd::command())
        .subcommand(DeviceArgs::command());
    #[cfg(feature = "manual")]
    let tree = texts::subcommands(tree);
    tree
}

impl Command {
    /// Parses the command line. On failure or `--help` it prints the message and returns the exit code.
    pub fn read() -> Result<Self, ExitCode> {
        let words: Vec<OsString> = std::env::args_os().collect();
        let helped = helper::is_called();
        let parsed = if helped { helper::words(&words) } else { Ok(words) };
        let parsed = parsed.and_then(|mut words| {
            // The older `--version N` takes a value; alone, it is the question for that of the program.
            if matches!(&words[1..], [word] if word == "--version") {
                words[1] = "-V".into();
            }
            Self::of(settings::complete(&tree(), words)?)
        });
        parsed.map_err(|e| {
            if e.use_stderr() {
                eprint!("hfl-mount: {}", e.render());
                return if helped { ExitCode::from(helper::USAGE) } else { ExitCode::from(2) };
            }
            let _ = e.print();
            ExitCode::SUCCESS
        })
    }

    fn of(mut matches: ArgMatches) -> Result<Self, clap::Error> {
        let Some((name, below)) = matches.remove_subcommand() else {
            return Args::from_arg_matches(&matches).and_then(Args::check).map(|args| Self::Mount(Box::new(args)));
        };
        match name.as_str() {
            "fetch" => {
                let args = FetchArgs::from_arg_matches(&below)?;
                args.origin.check().map(|()| Self::Fetch(Box::new(args)))
            }
            "nbd" => NbdArgs::from_matches(below).map(|args| Self::Nbd(Box::new(args))),
            "status" => StatusArgs::from_arg_matches(&below).map(Self::Status),
            "device" => DeviceArgs::from_arg_matches(&below).map(Self::Device),
            #[cfg(feature = "manual")]
            name => texts::TextArgs::from_matches(name, &below).map(Self::Texts),
            #[cfg(not(feature = "manual"))]
            name => unreachable!("{name} is no subcommand"),
        }
    }
}
