//! The subcommands: one file each, `Args` and `run`.

mod demo;
mod diff;
mod log;
mod mirrors;
mod mount;
mod publish;
mod restore;
mod serve;
mod verify;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Subcommand;
use hfl::head::Trust;
use hfl::mirrors::Mirrors;
use hfl::name::Name;
use hfl::publish::{Check, Error, ErrorKind, Keyring, Work};

#[derive(Subcommand)]
pub enum Command {
    Publish(publish::Args),
    Diff(diff::Args),
    Restore(restore::Args),
    Log(log::Args),
    Verify(verify::Args),
    Mirrors(mirrors::Args),
    Serve(serve::Args),
    Mount(mount::Args),
    Demo(demo::Args),
}

impl Command {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Publish(args) => publish::run(args),
            Self::Diff(args) => diff::run(args),
            Self::Restore(args) => restore::run(args),
            Self::Log(args) => log::run(args),
            Self::Verify(args) => verify::run(args),
            Self::Mirrors(args) => mirrors::run(args),
            Self::Serve(args) => serve::run(args),
            Self::Mount(args) => mount::run(args),
            Self::Demo(args) => demo::run(args),
        }
    }

    /// Whether errors are to be JSON, too.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Publish(args) => args.json,
            Self::Diff(args) => args.json,
            Self::Restore(args) => args.json,
            Self::Log(args) => args.json,
            Self::Verify(args) => args.json,
            Self::Mirrors(args) => args.json,
            Self::Serve(_) | Self::Mount(_) | Self::Demo(_) => false,
        }
    }
}

/// A runtime for the asynchronous parts.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// A flag that Ctrl-C, SIGTERM and SIGHUP set; the second of them ends the program at once.
fn cancel_on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let cancel = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancel);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        let _ = writeln!(std::io::stderr(), "hfl: stopping (once more to stop at once)");
    })?;
    Ok(cancel)
}

/// Where keys are looked for: the option, `HFL_KEY`, the user's configuration.
fn keyring(file: Option<PathBuf>) -> Keyring {
    Keyring {
        file,
        text: std::env::var("HFL_KEY").ok().filter(|key| !key.trim().is_empty()),
        password: std::env::var("HFL_KEY_PASSWORD").ok(),
        directory: xdg("XDG_CONFIG_HOME", ".config").map(|config| config.join("hfl/keys")),
    }
}

/// A directory of the XDG base directory specification; only absolute paths count there.
fn xdg(variable: &str, below_home: &str) -> Option<PathBuf> {
    let set = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    set.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(below_home)))
}

/// Where large temporary files go: a disk, not memory.
fn cache_directory() -> PathBuf {
    xdg("XDG_CACHE_HOME", ".cache").map_or_else(std::env::temp_dir, |cache| cache.join("hfl"))
}

/// How new state reaches the mirrors.
#[derive(clap::Args)]
pub struct DeliveryArgs {
    /// How many mirrors must have everything before any switches
    #[arg(long, default_value_t = 1, value_name = "N")]
    min_mirrors: usize,
    /// How long slow mirrors may still take once so many are ready, as in 90s or 2h
    #[arg(long, default_value = "1h", value_name = "TIME")]
    patience: humantime::Duration,
    /// How to find out what a mirror holds: its signed head, or a listing of it
    #[arg(long, default_value = "head", value_name = "head|list", value_parser = ["head", "list"])]
    check: String,
}

/// The repository of a mirrors.toml, as an operation works on it.
fn work(to: &Path, mirrors: Mirrors, key: Option<PathBuf>, unsigned: bool, delivery: &DeliveryArgs) -> Work {
    let relative_to = to.parent().unwrap_or(Path::new("")).to_owned();
    let key = key.or(mirrors.publish.key.as_ref().map(|key| relative_to.join(key)));
    let mut work = Work::new(mirrors, relative_to, (!unsigned).then(|| keyring(key)));
    work.min_mirrors = delivery.min_mirrors;
    work.patience = delivery.patience.into();
    work.check = if delivery.check == "list" { Check::List } else { Check::Head };
    work
}

/// What a reader believes.
#[derive(clap::Args)]
pub struct TrustArgs {
    /// The public key: the line, or its file [default: the one kept when publishing]
    #[arg(long)]
    key: Option<String>,
    /// Trust whatever is there
    #[arg(long, conflicts_with = "key")]
    unsigned: bool,
}

impl TrustArgs {
    /// What is believed of `image`; without options, the public key that publishing kept for it.
    fn of(&self, image: &Name) -> anyhow::Result<Trust> {
        if self.unsigned {
            return Ok(Trust::Anyone);
        }
        let kept = || {
            let directory = keyring(None).directory?;
            std::fs::read_to_string(directory.join(format!("{image}.pub"))).ok()
        };
        let text = match &self.key {
            Some(key) if Path::new(key).is_file() => Some(std::fs::read_to_string(key)?),
            Some(key) => Some(key.clone()),
            None => kept(),
        };
        let Some(text) = text else {
            let error = Error::new(ErrorKind::Usage, format!("no key is known for {image}"));
            return Err(error
                .hint("pin its public key with --key RW..., or say --unsigned to trust whatever is there")
                .into());
        };
        let key = text.parse().map_err(|e| Error::new(ErrorKind::Usage, format!("--key: {e}")))?;
        Ok(Trust::Key(key))
    }
}
