//! `hfl key`: makes, shows, exports and checks signing keys.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use hfl::Error;
use hfl::format::name::Name;
use hfl::publish::Keyring;
use hfl::system::directories;
use serde_json::json;

use super::{OutputArgs, keyring};
use crate::exit;

const EXAMPLES: &str = "\
Examples:
  hfl key new debian                               a key for the image debian, before its first version
  hfl key export debian | gh secret set HFL_KEY    for a CI job
  HFL_KEY=... hfl key check                        in the job: is this a key, and which?
  hfl key show                                     the public keys, which clients pin

A key is saved in ~/.config/hfl/keys as NAME.key (secret) and NAME.pub. Keys are those of minisign, with or without a \
password (HFL_KEY_PASSWORD). Keep a copy: without the secret key, nobody can publish this image again.";

/// Make, show, export and check signing keys
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

impl Args {
    pub fn wants_json(&self) -> bool {
        match &self.command {
            Command::New { output, .. } | Command::Show { output, .. } | Command::Check { output, .. } => output.json,
            Command::Export { .. } => false,
        }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Make a key
    #[command(after_help = "Examples:
  hfl key new debian
  HFL_KEY_PASSWORD=... hfl key new --out nightly.key")]
    New {
        /// Image, whose first version will be signed with it
        #[arg(required_unless_present = "out")]
        name: Option<Name>,
        /// Write it to this file, and the public key beside it
        #[arg(long, value_name = "FILE", conflicts_with = "name")]
        out: Option<PathBuf>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show public keys: of one image, or all that are saved and that of HFL_KEY
    #[command(after_help = "Example:
  hfl key show debian --json")]
    Show {
        /// Image
        name: Option<Name>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Print the secret key of an image, for a secret of a CI job or a copy
    #[command(after_help = "Examples:
  hfl key export debian | gh secret set HFL_KEY
  hfl key export debian > /media/backup/debian.key")]
    Export {
        /// Image
        name: Name,
        /// Print it even to a terminal
        #[arg(long)]
        to_terminal: bool,
    },
    /// Check the key that would sign: --key, else HFL_KEY, else the one saved for the image
    #[command(after_help = "Examples:
  HFL_KEY=... hfl key check
  hfl key check debian")]
    Check {
        /// Image
        name: Option<Name>,
        /// File of the secret key
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        #[command(flatten)]
        output: OutputArgs,
    },
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::New { name, out, output } => new(name.as_ref(), out, &output)?,
        Command::Show { name, output } => show(name.as_ref(), &output)?,
        Command::Export { name, to_terminal } => export(&name, to_terminal)?,
        Command::Check { name, key, output } => check(name.as_ref(), key, &output)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn saved() -> Keyring {
    Keyring { directory: directories::keys(), ..Keyring::default() }
}

fn new(name: Option<&Name>, out: Option<PathBuf>, output: &OutputArgs) -> anyhow::Result<()> {
    let file = match (name, out) {
        (Some(name), None) => saved().place(name)?,
        (_, out) => out.unwrap_or_default(),
    };
    output.step(format_args!("making a key in {}", file.display()));
    let (key, public) = Keyring::make(&file)?;
    let report = json!({ "public_key": key.public().to_string(), "key_file": file, "public_key_file": public });
    output.print(&report, |_, out| {
        let (public, file) = (key.public(), file.display());
        writeln!(out, "public key  {public}")?;
        writeln!(out, "secret key  {file}: keep a copy; without it, nobody can publish this image again")
    })
}

fn show(name: Option<&Name>, output: &OutputArgs) -> anyhow::Result<()> {
    if let Some(directory) = directories::keys() {
        output.step(format_args!("reading {}", directory.display()));
    }
    let known = keyring(None).known_keys();
    let own: Vec<_> = known.own.iter().filter(|(image, _)| name.is_none_or(|name| name == *image)).collect();
    let given = known.given.filter(|_| name.is_none());
    if let (Some(name), true) = (name, own.is_empty()) {
        return Err(Error::usage(format!("no key of {name} is saved here")).hint("hfl key show lists all").into());
    }
    let keys = own.iter().map(|(image, key)| json!({ "image": image.to_string(), "public_key": key.to_string() }));
    let report = json!({ "keys": keys.collect::<Vec<_>>(), "given": given.as_ref().map(ToString::to_string) });
    output.print(&report, |_, out| {
        let width = own.iter().map(|(image, _)| image.as_str().len()).max().unwrap_or_default().max("HFL_KEY".len());
        let own = own.iter().map(|(image, key)| (image.as_str(), *key));
        let mut all = own.chain(given.iter().map(|key| ("HFL_KEY", key)));
        all.try_for_each(|(from, key)| writeln!(out, "{from:width$}  {key}"))
    })
}

fn export(name: &Name, to_terminal: bool) -> anyhow::Result<()> {
    if std::io::stdout().is_terminal() && !to_terminal {
        let error = Error::usage("a secret key is not printed to a terminal");
        return Err(error.hint("pipe it to where it is needed; or --to-terminal").into());
    }
    exit::print(&saved().export(name)?)
}

fn check(name: Option<&Name>, file: Option<PathBuf>, output: &OutputArgs) -> anyhow::Result<()> {
    let found = keyring(file).check(name)?;
    let public = found.key.public();
    output.step(format_args!("signing with the key whose public half is {public}"));
    found.key.sign(b"", "hfl key check").map_err(|e| Error::local(e.to_string()))?;
    if !output.json {
        found.warning.iter().for_each(|warning| exit::warn(warning));
    }
    let report = json!({ "public_key": public.to_string(), "warning": found.warning });
    output.print(&report, |_, out| writeln!(out, "a secret key that signs; its public key is {public}"))
}
