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

use super::keyring;
use crate::exit;

const EXAMPLES: &str = "\
Examples:
  hfl key new debian                               a key for the image debian, before its first version
  hfl key export debian | gh secret set HFL_KEY    for a CI job
  HFL_KEY=... hfl key check                        in the job: is this a key, and which?
  hfl key show                                     the public keys, which clients pin

A key is saved in ~/.config/hfl/keys as NAME.key (secret) and NAME.pub. Keys are those of minisign, with or without a
password (HFL_KEY_PASSWORD). Keep a copy: without the secret key, nobody can publish this image again.";

/// Make, show, export and check signing keys
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub json: bool,
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
    },
    /// Show public keys: of one image, or all that are saved and that of HFL_KEY
    #[command(after_help = "Example:
  hfl key show debian --json")]
    Show {
        /// Image
        name: Option<Name>,
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
    },
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::New { name, out } => new(name.as_ref(), out, args.json),
        Command::Show { name } => show(name.as_ref(), args.json),
        Command::Export { name, to_terminal } => export(&name, to_terminal),
        Command::Check { name, key } => check(name.as_ref(), key, args.json),
    }
}

fn saved() -> Keyring {
    Keyring { directory: directories::keys(), ..Keyring::default() }
}

fn new(name: Option<&Name>, out: Option<PathBuf>, json: bool) -> anyhow::Result<ExitCode> {
    let file = match (name, out) {
        (Some(name), None) => saved().place(name)?,
        (_, out) => out.unwrap_or_default(),
    };
    let (key, public) = Keyring::make(&file)?;
    if json {
        let report = json!({ "public_key": key.public().to_string(), "key_file": file, "public_key_file": public });
        exit::print_json(&report)?;
    } else {
        let (public, file) = (key.public(), file.display());
        exit::print(&format!(
            "public key  {public}\nsecret key  {file}: keep a copy; without it, nobody can publish this image again\n"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(name: Option<&Name>, json: bool) -> anyhow::Result<ExitCode> {
    let known = keyring(None).known_keys();
    let own: Vec<_> = known.own.iter().filter(|(image, _)| name.is_none_or(|name| name == *image)).collect();
    let given = known.given.filter(|_| name.is_none());
    if let (Some(name), true) = (name, own.is_empty()) {
        return Err(Error::usage(format!("no key of {name} is saved here")).hint("hfl key show lists all").into());
    }
    if json {
        let own = own.iter().map(|(image, key)| json!({ "image": image.to_string(), "public_key": key.to_string() }));
        let report = json!({ "keys": own.collect::<Vec<_>>(), "given": given.map(|key| key.to_string()) });
        exit::print_json(&report)?;
        return Ok(ExitCode::SUCCESS);
    }
    let width = own.iter().map(|(image, _)| image.as_str().len()).max().unwrap_or_default().max("HFL_KEY".len());
    let own = own.into_iter().map(|(image, key)| (image.as_str(), key));
    let mut all = own.chain(given.iter().map(|key| ("HFL_KEY", key)));
    exit::print_with(|out| all.try_for_each(|(from, key)| writeln!(out, "{from:width$}  {key}")))?;
    Ok(ExitCode::SUCCESS)
}

fn export(name: &Name, to_terminal: bool) -> anyhow::Result<ExitCode> {
    if std::io::stdout().is_terminal() && !to_terminal {
        let error = Error::usage("a secret key is not printed to a terminal");
        return Err(error.hint("pipe it to where it is needed; or --to-terminal").into());
    }
    exit::print(&saved().export(name)?)?;
    Ok(ExitCode::SUCCESS)
}

fn check(name: Option<&Name>, file: Option<PathBuf>, json: bool) -> anyhow::Result<ExitCode> {
    let found = keyring(file).check(name)?;
    let public = found.key.public();
    found.key.sign(b"", "hfl key check").map_err(|e| Error::local(e.to_string()))?;
    if json {
        exit::print_json(&json!({ "public_key": public.to_string(), "warning": found.warning }))?;
    } else {
        found.warning.iter().for_each(|warning| exit::warn(warning));
        exit::print(&format!("a secret key that signs; its public key is {public}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
