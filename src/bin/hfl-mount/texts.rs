//! `hfl-mount completion` and `hfl-mount manual`: texts made from the command line. Only with the feature `manual`: the
//! small static client is built without.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{ArgMatches, Args as _, FromArgMatches as _};
use hfl::Error;
use hfl::manual::{self, Shell};

/// Print the completions of a shell for hfl-mount
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hfl-mount completion bash > /etc/bash_completion.d/hfl-mount")]
struct Completion {
    /// Shell
    #[arg(value_name = "bash|zsh|fish|elvish|powershell", hide_possible_values = true)]
    shell: Shell,
}

/// Write the manual pages of hfl-mount into a directory
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hfl-mount manual /usr/local/share/man/man1 && man hfl-mount")]
struct Manual {
    /// Directory for the pages; made if it does not exist
    directory: PathBuf,
}

/// The arguments of either.
#[derive(Debug)]
pub struct TextArgs(Wanted);

#[derive(Debug)]
enum Wanted {
    Completion(Completion),
    Manual(Manual),
}

/// Adds both commands.
pub fn subcommands(tree: clap::Command) -> clap::Command {
    tree.subcommand(Completion::augment_args(clap::Command::default().name("completion")))
        .subcommand(Manual::augment_args(clap::Command::default().name("manual")))
}

impl TextArgs {
    /// From the matches of the command `name`.
    pub fn from_matches(name: &str, matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(match name {
            "completion" => Wanted::Completion(Completion::from_arg_matches(matches)?),
            _ => Wanted::Manual(Manual::from_arg_matches(matches)?),
        }))
    }
}

/// Prints or writes them, for the command line `tree`.
pub fn run(args: &TextArgs, tree: &clap::Command) -> Result<(), Error> {
    let mut text = Vec::new();
    match &args.0 {
        Wanted::Completion(Completion { shell }) => manual::write_completion(tree, *shell, &mut text),
        Wanted::Manual(Manual { directory }) => {
            let written = manual::write_pages(tree, directory, &[]).map_err(|e| Error::io(directory, &e))?;
            written.iter().for_each(|page| text.extend(format!("{}\n", page.display()).into_bytes()));
        }
    }
    let mut out = std::io::stdout().lock();
    match out.write_all(&text).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::local(format!("cannot print: {e}"))),
        _ => Ok(()),
    }
}
