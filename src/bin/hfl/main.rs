//! hfl: publishes disk images to ordinary web servers, and restores them.

mod command;
mod exit;
mod markdown;
mod progress;
mod show;
mod terminal;

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
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return exit::report_usage(&error, exit::wants_json(std::env::args_os())),
        Err(error) => error.exit(),
    };
    let json = cli.command.wants_json();
    match cli.command.run() {
        Ok(code) => code,
        Err(error) => exit::report(&error, json),
    }
}
