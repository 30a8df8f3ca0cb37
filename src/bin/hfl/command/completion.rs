//! `hfl completion`.

use std::process::ExitCode;

use clap::CommandFactory as _;
use hfl::manual::{self, Shell};

use crate::{Cli, exit};

/// Print the completions of a shell for hfl.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  hfl completion bash > /etc/bash_completion.d/hfl
  hfl completion zsh > /usr/local/share/zsh/site-functions/_hfl
  hfl completion fish > ~/.config/fish/completions/hfl.fish

hfl-mount has the same command. The packages install both.")]
pub struct Args {
    /// Shell
    #[arg(value_name = "bash|zsh|fish|elvish|powershell", hide_possible_values = true)]
    shell: Shell,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    manual::write_completion(&Cli::command(), args.shell, &mut text);
    exit::print(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}
