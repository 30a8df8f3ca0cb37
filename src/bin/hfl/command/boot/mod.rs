//! `hfl boot`: builds the boot files of an image, and tests a boot.

mod build;
mod trial;

use std::process::ExitCode;

pub use trial::try_published;

/// Build the boot files of an image, or test-boot a published version.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Build(build::Args),
    Try(trial::Args),
}

impl Args {
    /// Whether errors are also printed as JSON.
    pub fn wants_json(&self) -> bool {
        match &self.command {
            Command::Build(args) => args.output.json,
            Command::Try(args) => args.output.json,
        }
    }
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Build(args) => build::run(args),
        Command::Try(args) => trial::run(args),
    }
}
