//! The subcommands, one file each with `Args` and `run`.

mod boot;
#[cfg(feature = "manual")]
mod completion;
mod demo;
mod diff;
mod diff_report;
mod gc;
mod image;
mod key;
mod log;
#[cfg(feature = "manual")]
mod manual;
mod mirrors;
mod mount;
mod publish;
mod restore;
mod rollback;
mod serve;
mod sync;
mod to;
mod verify;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Subcommand;
use hfl::Error;
use hfl::config::Mirrors;
use hfl::format::head::Trust;
use hfl::format::name::Name;
use hfl::format::signature::PublicKey;
use hfl::format::units;
use hfl::progress::Watch;
use hfl::publish::{Check, Keyring, Memory, Reader, Repository};
use hfl::repo::survey::TrustPolicy;
use hfl::repo::{OpenOptions, StateDirectory, Warning, given_key};
use hfl::system::directories;

use crate::exit;
use crate::progress::{ProgressArgs, Reporter};
use crate::show::Verbosity;

#[derive(Subcommand)]
pub enum Command {
    Publish(publish::Args),
    Boot(boot::Args),
    Diff(diff::Args),
    Sync(sync::Args),
    Rollback(rollback::Args),
    Gc(gc::Args),
    Restore(restore::Args),
    Log(log::Args),
    Key(key::Args),
    Verify(verify::Args),
    Mirrors(mirrors::Args),
    Serve(serve::Args),
    Mount(mount::Args),
    Demo(demo::Args),
    #[cfg(feature = "manual")]
    Completion(completion::Args),
    #[cfg(feature = "manual")]
    Manual(manual::Args),
}

impl Command {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Publish(args) => publish::run(args),
            Self::Boot(args) => boot::run(args),
            Self::Diff(args) => diff::run(args),
            Self::Sync(args) => sync::run(args),
            Self::Rollback(args) => rollback::run(args),
            Self::Gc(args) => gc::run(args),
            Self::Restore(args) => restore::run(args),
            Self::Log(args) => log::run(args),
            Self::Key(args) => key::run(args),
            Self::Verify(args) => verify::run(args),
            Self::Mirrors(args) => mirrors::run(args),
            Self::Serve(args) => serve::run(args),
            Self::Mount(args) => mount::run(args),
            Self::Demo(args) => demo::run(args),
            #[cfg(feature = "manual")]
            Self::Completion(args) => completion::run(args),
            #[cfg(feature = "manual")]
            Self::Manual(args) => manual::run(args),
        }
    }

    /// Whether errors are also printed as JSON.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Publish(args) => args.change.says.wants_json(),
            Self::Boot(args) => args.wants_json(),
            Self::Sync(args) => args.change.says.wants_json(),
            Self::Rollback(args) => args.change.says.wants_json(),
            Self::Gc(args) => args.change.says.wants_json(),
            Self::Diff(args) => args.output.json,
            Self::Restore(args) => args.says.wants_json(),
            Self::Log(args) => args.output.json,
            Self::Key(args) => args.wants_json(),
            Self::Verify(args) => args.says.wants_json(),
            Self::Mirrors(args) => args.says.wants_json(),
            Self::Demo(args) => args.says.wants_json(),
            Self::Serve(args) => args.json,
            Self::Mount(_) => false,
            #[cfg(feature = "manual")]
            Self::Completion(_) | Self::Manual(_) => false,
        }
    }
}

fn usage(message: String) -> anyhow::Error {
    Error::usage(message).into()
}

/// Builds a runtime for asynchronous code.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// A flag set by Ctrl-C, SIGTERM and SIGHUP; the second signal ends the program at once.
fn cancel_on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let cancel = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancel);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        let _ = writeln!(std::io::stderr(), "hfl: stopping (interrupt again to stop immediately)");
    })?;
    Ok(cancel)
}

/// Sources of keys: the option, `HFL_KEY`, the user's configuration.
fn keyring(file: Option<PathBuf>) -> Keyring {
    // An empty variable counts: a job without its secret must not continue with another key.
    let variable = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let (text, password) = (variable("HFL_KEY"), variable("HFL_KEY_PASSWORD"));
    Keyring { file, text, password, directory: directories::keys(), refuses_new: false }
}

/// How new state reaches the mirrors.
#[derive(clap::Args)]
pub struct DeliveryArgs {
    /// Number of mirrors that must be ready before any mirror is switched
    #[arg(long, default_value_t = 1, value_name = "N")]
    min_mirrors: usize,
    /// Time limit for the other mirrors once that many are ready, such as 90s or 2h
    #[arg(long, default_value = "1h", value_name = "TIME", value_parser = units::time)]
    patience: Duration,
    /// How to determine which blocks a mirror holds: by its signed head, or by a listing
    #[arg(
        long,
        default_value = "head",
        value_name = "head|list",
        value_parser = ["head", "list"],
        hide_possible_values = true
    )]
    check: String,
}

/// Whether other publishers are waited for.
#[derive(clap::Args)]
struct WaitArgs {
    /// While another publisher holds the lock of the mirrors, wait for it at most this long, such as 10m [default: end
    /// with exit code 5]
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    wait: Option<Duration>,
}

impl WaitArgs {
    fn time(&self) -> Duration {
        self.wait.unwrap_or_default()
    }
}

/// Which mirrors are changed, and how.
#[derive(clap::Args)]
pub struct ChangeArgs {
    /// File that describes the mirrors; or a directory or URL, which is the only mirror then
    #[arg(long, value_name = "mirrors.toml")]
    to: PathBuf,
    #[command(flatten)]
    delivery: DeliveryArgs,
    #[command(flatten)]
    wait: WaitArgs,
    /// Write nothing; show what would be done: objects and bytes for each mirror
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pub says: LongArgs,
}

/// Whether an image may be started anew.
#[derive(clap::Args)]
pub struct FirstArgs {
    /// Start the image or a mirror anew, even if there is evidence of an earlier version
    #[arg(long)]
    first: bool,
}

/// Whose key signs.
#[derive(clap::Args)]
pub struct KeyArgs {
    /// File of the minisign secret key; its password is taken from HFL_KEY_PASSWORD [default: `key` of mirrors.toml,
    /// else the text in HFL_KEY, else the key saved for this image]
    #[arg(long, value_name = "FILE", conflicts_with = "unsigned")]
    key: Option<PathBuf>,
    /// Sign nothing
    #[arg(long)]
    unsigned: bool,
}

/// How much is said, and to whom.
#[derive(clap::Args)]
pub struct OutputArgs {
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Print errors only
    #[arg(short, long)]
    quiet: bool,
    /// Verbose output
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
}

impl OutputArgs {
    fn verbosity(&self) -> Verbosity {
        Verbosity::of(self.quiet || self.json, self.verbose)
    }

    /// Prints a step with -v.
    fn step(&self, text: impl std::fmt::Display) {
        if self.verbosity() == Verbosity::Verbose {
            // A standard error stream that cannot be written to is ignored.
            let _ = writeln!(std::io::stderr(), "hfl: {text}");
        }
    }

    /// Prints a report: with --json as JSON, with -q not at all, else as `write` does.
    fn print<T: serde::Serialize>(
        &self,
        report: &T,
        write: impl FnOnce(&T, &mut String) -> std::fmt::Result,
    ) -> anyhow::Result<()> {
        match (self.json, self.quiet) {
            (true, _) => exit::print_json(report),
            (false, true) => Ok(()),
            (false, false) => exit::print_with(|out| write(report, out)),
        }
    }
}

/// The same of a command that takes long.
#[derive(clap::Args)]
pub struct LongArgs {
    #[command(flatten)]
    progress: ProgressArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl LongArgs {
    /// Whether errors are printed as JSON.
    fn wants_json(&self) -> bool {
        self.output.json || self.progress.is_json()
    }

    /// Starts the output of progress.
    fn start(&self) -> Result<Arc<Reporter>, Error> {
        self.progress.start(self.output.verbosity())
    }

    /// Progress output and cancel flag of an operation.
    fn watch(&self) -> anyhow::Result<Watch> {
        Ok(Watch { progress: self.start()?, cancel: cancel_on_signal()? })
    }
}

/// How a result is printed.
pub struct Output {
    json: bool,
    verbosity: Verbosity,
    progress: ProgressArgs,
}

impl Output {
    fn of(args: &LongArgs) -> Self {
        let LongArgs { progress, output } = args;
        Self { json: output.json, verbosity: output.verbosity(), progress: progress.clone() }
    }

    fn is_quiet(&self) -> bool {
        self.verbosity == Verbosity::Quiet
    }
}

/// The repository of a mirrors.toml, for an operation that changes it.
fn repository(change: &ChangeArgs, mirrors: Mirrors, key: KeyArgs) -> Repository {
    let delivery = &change.delivery;
    let relative_to = to::base(&change.to);
    let file = key.key.or(mirrors.publish.key.as_ref().map(|key| relative_to.join(key)));
    let keyring = (!key.unsigned).then(|| keyring(file));
    let mut repository = Repository::new(mirrors, relative_to, keyring);
    repository.dry_run = change.dry_run;
    repository.memory = Memory::below(directories::state().as_deref());
    repository.min_mirrors = delivery.min_mirrors;
    repository.patience = delivery.patience;
    repository.wait = change.wait.time();
    repository.check = if delivery.check == "list" { Check::List } else { Check::Head };
    repository
}

/// The repository of a mirrors.toml, for reading only.
fn reading(mirrors: Mirrors, to: &Path) -> Repository {
    let relative_to = to::base(to);
    let file = mirrors.publish.key.as_ref().map(|key| relative_to.join(key));
    Repository::new(mirrors, relative_to, Some(keyring(file)))
}

/// The keys known here.
fn known_keys(repository: &Repository) -> TrustPolicy {
    TrustPolicy::Known(repository.keyring.as_ref().map(Keyring::known_keys).unwrap_or_default())
}

/// What a reader believes.
#[derive(clap::Args)]
pub struct TrustArgs {
    /// Public key of the publisher: its base64 line, or a file that contains it [default: the key saved when
    /// publishing, else that of HFL_KEY]
    #[arg(long, value_name = "PUBKEY")]
    key: Option<String>,
    /// Accept unsigned images
    #[arg(long, conflicts_with = "key")]
    unsigned: bool,
    /// Accept a version older than the newest seen before, and record it as the newest
    #[arg(long)]
    allow_rollback: bool,
}

impl TrustArgs {
    /// Whose signatures are accepted in a repository; without options, those of the keys known here.
    fn policy(&self, repository: &Repository) -> anyhow::Result<TrustPolicy> {
        if self.unsigned {
            return Ok(TrustPolicy::Anyone);
        }
        let Some(given) = &self.key else { return Ok(known_keys(repository)) };
        Ok(TrustPolicy::Key(given_key(given)?))
    }

    /// Rollback protection for judging a repository.
    fn reader(&self) -> Reader {
        Reader { state: StateDirectory::of_user(), allow_rollback: self.allow_rollback }
    }

    /// Options for the newest version of `image`.
    fn options(&self, image: &Name) -> anyhow::Result<OpenOptions> {
        let options = OpenOptions::new(image.clone(), self.of(image)?);
        Ok(options.state(StateDirectory::of_user()).allow_rollback(self.allow_rollback))
    }

    /// What is accepted for `image`; without options, the public key saved when publishing it.
    fn of(&self, image: &Name) -> anyhow::Result<Trust> {
        if self.unsigned {
            return Ok(Trust::Anyone);
        }
        let Some(key) = kept_key(self.key.as_deref(), image)? else {
            let error = Error::usage(format!("no key is known for {image}"));
            return Err(error
                .hint("pin its public key with --key RW..., or accept unsigned images with --unsigned")
                .into());
        };
        Ok(Trust::Key(key))
    }
}

/// The given public key, as its line or its file; else the one saved when publishing `image`; else that of `HFL_KEY`.
fn kept_key(given: Option<&str>, image: &Name) -> anyhow::Result<Option<PublicKey>> {
    let keyring = keyring(None);
    let kept = || {
        let directory = keyring.directory.as_ref()?;
        std::fs::read_to_string(directory.join(format!("{image}.pub"))).ok()
    };
    let usage = |why: &dyn std::fmt::Display| Error::usage(format!("--key: {why}"));
    if let Some(given) = given {
        return Ok(Some(given_key(given).map_err(|e| usage(&e))?));
    }
    match kept() {
        Some(text) => Ok(Some(text.parse().map_err(|e| usage(&e))?)),
        None if keyring.text.is_some() => Ok(Some(keyring.check(Some(image))?.key.public().clone())),
        None => Ok(None),
    }
}

/// Prints the warnings about an accepted image, each only once, however often it is opened.
fn warn_of(image: &Name, warnings: &[Warning]) {
    warnings.iter().for_each(|warning| exit::warn_once(&format!("{image}: {warning}")));
}
