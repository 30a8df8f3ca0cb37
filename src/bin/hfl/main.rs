//! hfl: publishes disk images to ordinary web servers, and restores them.

mod command;
mod exit;
mod restore_progress;
mod show;

use std::process::ExitCode;

use clap::Parser;

/// Publish disk images to web servers, and mount or boot them over HTTP.
#[derive(Parser)]
#[command(name = "hfl", version, long_version = hfl::build_info::text(), after_help = "Try it: hfl demo")]
pub struct Cli {
    #[command(subcommand)]
    command: command::Command,
}

fn main() -> ExitCode {
    exit::quiet_on_broken_pipe();
    let cli = Cli::parse();
    let json = cli.command.wants_json();
    match cli.command.run() {
        Ok(code) => code,
        Err(error) => exit::report(&error, json),
    }
}
