//! `hfl manual`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory as _;
use hfl::{Error, manual};

use crate::{Cli, exit};

/// The page of the command `hfl mount` is that of the program it starts.
const ELSEWHERE: [&str; 1] = ["hfl-mount"];

/// Write the manual pages of hfl into a directory.
#[derive(clap::Args)]
#[command(after_help = "Example:
  hfl manual /usr/local/share/man/man1 && man hfl-publish

hfl-mount has the same command. The packages install the pages of both.")]
pub struct Args {
    /// Directory for the pages; made if it does not exist
    directory: PathBuf,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let written = manual::write_pages(&Cli::command(), &args.directory, &ELSEWHERE);
    let written = written.map_err(|e| Error::io(&args.directory, &e))?;
    exit::print_with(|out| {
        use std::fmt::Write as _;
        written.iter().try_for_each(|page| writeln!(out, "{}", page.display()))
    })?;
    Ok(ExitCode::SUCCESS)
}
