//! Settings beside the command line: each option can also be given by `-o`, by an environment variable, and in the
//! configuration of the image, `/etc/hfl/NAME.toml`. The first of these that gives an option counts; what cannot be
//! combined with it is left out.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory as _};
use hfl::format::name::Version;
use hfl::repo::source::Source;

use crate::args::Args;

/// Directory of the configurations of images; HFL_CONFIG names another one.
const DIRECTORY: &str = "/etc/hfl";
/// A longer file is no configuration.
const FILE_MAX_BYTES: u64 = 1 << 20;
/// The key that says where an image is; a command line then gives only its name.
const SOURCE: &str = "source";
/// The commands that take settings, beside mounting itself.
const COMMANDS: [&str; 2] = ["fetch", "nbd"];
/// Words of a list of mount options that are for mount(8) or for the kernel's mount call, not for hfl-mount.
const OF_MOUNT: [&str; 36] = [
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "sync",
    "async",
    "dirsync",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "nousers",
    "owner",
    "group",
    "defaults",
    "_netdev",
    "nofail",
    "allow_other",
    "default_permissions",
    "silent",
    "loud",
];

/// Those of these words that the mount of the file system in an image takes, too.
const OF_CALL: [&str; 8] = ["nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "strictatime", "silent"];

/// An option from elsewhere than the command line.
struct Setting {
    /// Long name of the option.
    name: String,
    /// The value; for a flag, whether it is set.
    value: OsString,
    /// Where it is from, for messages.
    origin: String,
}

/// Parses the command line, completed by the settings for its image.
///
/// # Errors
/// Those of the command line; a setting that is unknown or has an invalid value, with where it is from.
pub fn complete(tree: &Command, words: Vec<OsString>) -> Result<ArgMatches, clap::Error> {
    let mut matches = tree.clone().try_get_matches_from(&words)?;
    let (command, given) = match matches.subcommand() {
        None => (tree, &matches),
        Some((name, below)) if COMMANDS.contains(&name) => (tree.find_subcommand(name).unwrap_or(tree), below),
        Some(_) => return Ok(matches),
    };
    let failed = |why: String| clap::Error::raw(ErrorKind::ValueValidation, format!("{why}\n"));
    let configuration = Configuration::of(given).map_err(failed)?;
    let settings = options(command, given)
        .map_err(failed)?
        .into_iter()
        .chain(environment(command).map_err(failed)?)
        .chain(configuration.settings(tree, command).map_err(failed)?);
    // A flag that is set to `no` hides a farther `yes`, and excludes nothing.
    let (mut taken, mut unset) = (given_names(command, given), Vec::new());
    // Options stand behind the name of the program, or of the command.
    let at = if command.get_name() == tree.get_name() { 1 } else { 2 };
    let mut completed = words;
    if let Some(sources) = configuration.sources().map_err(failed)? {
        if let Some(at) = completed.iter().skip(1).position(|word| *word == configuration.name) {
            completed.splice(at + 1..=at + 1, sources);
        }
        matches = tree.clone().try_get_matches_from(&completed)?;
    }
    for setting in settings {
        let argument = find(command, &setting.name).expect("settings are of known options");
        let is_hidden = unset.contains(&setting.name) || taken.contains(&setting.name);
        if is_hidden || taken.iter().any(|name| excludes(command, argument, name)) {
            continue;
        }
        let Some(word) = word(argument, &setting).map_err(failed)? else {
            unset.push(setting.name);
            continue;
        };
        completed.insert(at, word);
        // A wrong value is told with where it is from.
        let parsed = tree.clone().try_get_matches_from(&completed);
        matches = parsed.map_err(|e| failed(format!("{}: {}", setting.origin, first_line(&e))))?;
        taken.push(setting.name);
    }
    Ok(matches)
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// The options that can be set elsewhere: all that a user sees, but for help and version.
fn settable(command: &Command) -> impl Iterator<Item = &Arg> {
    let not = ["help", "program_version", "options"];
    command
        .get_arguments()
        .filter(move |a| a.get_long().is_some() && !a.is_hide_set() && !not.contains(&a.get_id().as_str()))
}

fn find<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    settable(command).find(|argument| argument.get_long() == Some(name))
}

/// Names of the options on the command line.
fn given_names(command: &Command, given: &ArgMatches) -> Vec<String> {
    let is_given = |a: &&Arg| given.value_source(a.get_id().as_str()) == Some(ValueSource::CommandLine);
    settable(command).filter(is_given).filter_map(|a| a.get_long().map(str::to_owned)).collect()
}

/// Whether the two cannot be combined.
fn excludes(command: &Command, argument: &Arg, other: &str) -> bool {
    let conflict = |a: &Arg, b: &str| command.get_arg_conflicts_with(a).iter().any(|c| c.get_long() == Some(b));
    let name = argument.get_long().unwrap_or_default();
    conflict(argument, other) || find(command, other).is_some_and(|other| conflict(other, name))
}

/// The option as a word of a command line; `None` for a flag that is not set.
fn word(argument: &Arg, setting: &Setting) -> Result<Option<OsString>, String> {
    let mut word = OsString::from(format!("--{}", setting.name));
    if argument.get_action().takes_values() {
        word.push("=");
        word.push(&setting.value);
        return Ok(Some(word));
    }
    match setting.value.to_str().map(str::to_ascii_lowercase).as_deref() {
        Some("true" | "yes" | "on" | "1") => Ok(Some(word)),
        Some("false" | "no" | "off" | "0") => Ok(None),
        _ => Err(format!("{}: expected true or false", setting.origin)),
    }
}

/// The options in lists after `-o`, as in fstab. Those for mount(8) are left out.
fn options(command: &Command, given: &ArgMatches) -> Result<Vec<Setting>, String> {
    let Ok(Some(lists)) = given.try_get_many::<String>("options") else { return Ok(Vec::new()) };
    let mut settings = Vec::new();
    for option in lists.flat_map(|list| list.split(',')).filter(|option| !is_of_mount(option)) {
        let (name, value) = option.split_once('=').unwrap_or((option, "true"));
        if find(command, name).is_none() {
            if given.get_flag("contents") {
                continue;
            }
            return Err(format!("-o {name}: no such option; --help lists them, without `--` here"));
        }
        settings.push(Setting { name: name.into(), value: value.into(), origin: format!("-o {name}") });
    }
    Ok(settings)
}

/// The options of lists that are for the file system in the image, or for its mount call.
pub fn of_file_system(lists: &[String]) -> Vec<String> {
    let command = Args::command();
    let options = lists.iter().flat_map(|list| list.split(','));
    let is_own = |option: &str| find(&command, option.split_once('=').map_or(option, |(name, _)| name)).is_some();
    let is_wanted = |option: &&str| !is_own(option) && (OF_CALL.contains(option) || !is_of_mount(option));
    options.filter(is_wanted).map(str::to_owned).collect()
}

/// Whether the option of a list is for mount(8), the kernel's mount call, or a comment.
fn is_of_mount(option: &str) -> bool {
    let prefixes = ["x-", "X-", "comment=", "fsname=", "subtype=", "user="];
    option.is_empty() || OF_MOUNT.contains(&option) || prefixes.iter().any(|prefix| option.starts_with(prefix))
}

/// The variable of an option: `HFL_MOUNT_CACHE_SIZE` for `--cache-size`.
fn variable(name: &str) -> String {
    format!("HFL_MOUNT_{}", name.to_uppercase().replace('-', "_"))
}

fn environment(command: &Command) -> Result<Vec<Setting>, String> {
    let mut settings = Vec::new();
    for name in settable(command).filter_map(Arg::get_long) {
        let variable = variable(name);
        match std::env::var_os(&variable) {
            None => {}
            // A job without its secret must not go on without it.
            Some(value) if value.is_empty() => return Err(format!("{variable} is set, but empty")),
            Some(value) => settings.push(Setting { name: name.into(), value, origin: variable }),
        }
    }
    Ok(settings)
}

/// The configuration of an image: a table of options, all optional.
struct Configuration {
    /// The image as on the command line, if that is a name alone; else nothing.
    name: OsString,
    /// The version in that name.
    version: Option<Version>,
    path: PathBuf,
    table: toml::Table,
}

impl Configuration {
    /// Reads that of the image on the command line; it is empty if there is none.
    fn of(given: &ArgMatches) -> Result<Self, String> {
        let source = given.get_many::<Source>("sources").and_then(|mut sources| sources.next());
        let Some(source) = source else { return Ok(Self::empty(PathBuf::new())) };
        let directory = std::env::var_os("HFL_CONFIG").map_or_else(|| PathBuf::from(DIRECTORY), PathBuf::from);
        let path = directory.join(format!("{}.toml", source.image));
        let name =
            if source.is_name_alone() { source.to_string().trim_start_matches("./").into() } else { OsString::new() };
        let Some(text) = read(&path)? else { return Ok(Self::empty(path)) };
        let table = text.parse().map_err(|e: toml::de::Error| {
            let line = e.span().map(|span| text[..span.start].lines().count().max(1));
            let line = line.map_or_else(String::new, |line| format!(" line {line}:"));
            format!("{}:{line} {}", path.display(), e.message())
        })?;
        Ok(Self { name, version: source.version, path, table })
    }

    fn empty(path: PathBuf) -> Self {
        Self { name: OsString::new(), version: None, path, table: toml::Table::new() }
    }

    /// The sources that replace the name on the command line.
    fn sources(&self) -> Result<Option<Vec<OsString>>, String> {
        let wrong = || format!("{}: {SOURCE}: expected a text, or a list of texts", self.path.display());
        if self.name.is_empty() {
            return Ok(None);
        }
        let text = |value: &toml::Value| value.as_str().map(OsString::from).ok_or_else(wrong);
        let sources = match self.table.get(SOURCE) {
            None => return Ok(None),
            Some(toml::Value::Array(values)) => values.iter().map(text).collect::<Result<Vec<_>, _>>()?,
            Some(value) => vec![text(value)?],
        };
        let versioned = |mut source: OsString| {
            self.version.iter().for_each(|version| source.push(format!("@{version}")));
            source
        };
        Ok(Some(sources.into_iter().map(versioned).collect()))
    }

    /// The options for `command`. Those of the other commands are left out.
    fn settings(&self, tree: &Command, command: &Command) -> Result<Vec<Setting>, String> {
        let mut settings = Vec::new();
        for (name, value) in self.table.iter().filter(|(name, _)| *name != SOURCE) {
            let origin = format!("{}: {name}", self.path.display());
            let others = COMMANDS.iter().filter_map(|name| tree.find_subcommand(name));
            if !std::iter::once(tree).chain(others).any(|command| find(command, name).is_some()) {
                return Err(format!("{origin}: no such option; hfl-mount --help lists them, without `--` here"));
            }
            let value = match value {
                toml::Value::String(text) => text.clone(),
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(is_set) => is_set.to_string(),
                _ => return Err(format!("{origin}: expected a text, a number, true or false")),
            };
            if find(command, name).is_some() {
                settings.push(Setting { name: name.clone(), value: value.into(), origin });
            }
        }
        Ok(settings)
    }
}

fn read(path: &Path) -> Result<Option<String>, String> {
    use std::io::Read as _;
    let failed = |e: std::io::Error| format!("{}: {e}", path.display());
    let file = match std::fs::File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    let mut text = String::new();
    file.take(FILE_MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
    Ok(Some(text))
}
