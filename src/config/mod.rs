//! mirrors.toml: where a repository is written and read, and the defaults of `hfl publish`.
//!
//! Unknown keys are rejected, with the line and the known key that was probably meant. `${NAME}` in the values of places
//! and headers stands for an environment variable; no message has its value.

mod keys;
mod variables;
mod write;

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::de::{DeTable, Deserializer};

use crate::format::block::Codec;
use crate::format::name::Name;
use crate::format::text::FormatError;
use crate::format::units;
use crate::format::url::BaseUrl;
use crate::store::key::{KeyKind, Value};
use crate::store::place::Values;
use crate::store::protocols;
use crate::system::environment;

pub use write::{WriteError, WritePlace};

/// The largest mirrors.toml, in bytes.
pub const FILE_MAX_BYTES: u64 = 1 << 20;
/// Limit on the number of mirrors.
pub const MIRRORS_MAX: usize = 64;

/// A validated mirrors.toml.
#[derive(Debug, Clone)]
pub struct Mirrors {
    /// Defaults of `hfl publish`.
    pub publish: Defaults,
    /// The enabled mirrors, in the order of the file; at least one.
    pub mirrors: Vec<Mirror>,
    /// Whether the file itself has headers, which may be secrets.
    has_headers: bool,
    /// The environment variables in its headers.
    secret: Vec<String>,
}

/// Defaults of `hfl publish`, each overridden by the option of the same name.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Defaults {
    /// How first versions of images are split into blocks.
    pub split: Option<String>,
    /// Codec of new blocks.
    #[serde(default, deserialize_with = "codec")]
    pub codec: Option<Codec>,
    /// Compression level of new blocks in zlib.
    pub level: Option<u8>,
    /// From how many of the newest versions deltas are made.
    pub deltas: Option<u8>,
    /// File of the secret key.
    pub key: Option<String>,
    /// Days until a head expires.
    pub expires_days: Option<u32>,
    /// Clients to publish along with the images.
    #[serde(default)]
    pub client: Vec<String>,
    /// A directory of templates that override the built-in ones.
    pub templates: Option<String>,
    /// Minimum number of versions `hfl gc` keeps.
    pub keep: Option<u32>,
}

/// One mirror of the repository.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// Name in messages and reports.
    pub name: Name,
    /// Where it is written.
    pub write: WritePlace,
    /// Public URL for clients.
    pub read: Option<BaseUrl>,
    /// Whether written objects are read back through `read`.
    pub read_back: bool,
    /// Number of concurrent uploads.
    pub jobs: Option<u32>,
    /// Upload limit in bytes per second.
    pub rate: Option<u64>,
    /// Values of the protocol-specific keys.
    pub access: Values,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    publish: Defaults,
    #[serde(default)]
    mirror: Vec<Table>,
}

/// A `[[mirror]]` table as written; [`keys::check`] has rejected unknown keys.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Table {
    name: String,
    write: String,
    read: Option<String>,
    read_back: Option<bool>,
    enabled: Option<bool>,
    jobs: Option<u32>,
    #[serde(default, deserialize_with = "rate")]
    rate: Option<u64>,
    #[serde(flatten)]
    access: BTreeMap<String, toml::Value>,
}

impl Mirrors {
    /// Whether the file may contain secrets, in headers sent with requests.
    pub fn may_hold_secrets(&self) -> bool {
        self.has_headers
    }

    /// The environment variables it names that hold secrets.
    pub fn secret_variables(&self) -> impl Iterator<Item = &str> {
        let variables = protocols::keys().filter(|key| key.kind == KeyKind::Variable);
        let named = variables.flat_map(|key| self.mirrors.iter().filter_map(move |mirror| mirror.access.text(key)));
        named.chain(self.secret.iter().map(String::as_str))
    }

    /// The repository with this mirror alone: a directory or a URL, as `write` in the file.
    ///
    /// # Errors
    /// No such place, or a protocol that needs more than its URL.
    pub fn of_place(write: &str) -> Result<Self, FormatError> {
        // A directory may have any name.
        let write = write.replace("${", "$${");
        Self::parse(&format!("[[mirror]]\nname = \"mirror\"\nwrite = {}\n", toml::Value::from(write)))
    }

    /// Parses the text of a mirrors.toml, with the environment variables of this process.
    ///
    /// # Errors
    /// The first problem, with its line if known.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        Self::parse_with(text, &environment::variable)
    }

    fn parse_with(text: &str, lookup: &variables::Lookup<'_>) -> Result<Self, FormatError> {
        keys::check(text)?;
        let failed = |e: toml::de::Error| keys::toml_error(text, &e);
        let mut table = DeTable::parse(text).map_err(failed)?;
        let secret = variables::put_in(text, table.get_mut(), lookup)?;
        // Messages are about the file as it is written, so that they have no values of variables.
        let written: File = toml::from_str(text).map_err(failed)?;
        let file = File::deserialize(Deserializer::from(table)).map_err(failed)?;
        if file.publish.level.is_some_and(|level| level > Codec::ZLIB_MAX) {
            return Err(FormatError::whole(format!("level is at most {}", Codec::ZLIB_MAX)));
        }
        if let (Some(codec), Some(_)) = (file.publish.codec, file.publish.level) {
            return Err(FormatError::whole(format!("`level` and `codec` exclude each other: codec = \"{codec}\"")));
        }
        if file.mirror.is_empty() {
            return Err(FormatError::whole("no mirror: add a [[mirror]] table with a name and `write`"));
        }
        if file.mirror.len() > MIRRORS_MAX {
            return Err(FormatError::whole(format!("{} mirrors, at most {MIRRORS_MAX}", file.mirror.len())));
        }
        let mut enabled: Vec<_> = file.mirror.into_iter().zip(written.mirror).collect();
        enabled.retain(|(table, _)| table.enabled != Some(false));
        let has_headers = enabled.iter().any(|(_, written)| written.has_headers());
        let places: Vec<String> = enabled.iter().map(|(_, written)| written.write.clone()).collect();
        let mirrors: Vec<Mirror> = enabled.into_iter().map(mirror).collect::<Result<_, _>>()?;
        if mirrors.is_empty() {
            return Err(FormatError::whole("every mirror is disabled"));
        }
        for (i, mirror) in mirrors.iter().enumerate() {
            if mirrors[..i].iter().any(|other| other.name == mirror.name) {
                return Err(FormatError::whole(format!("two mirrors are named {}", mirror.name)));
            }
            if mirrors[..i].iter().any(|other| other.write == mirror.write) {
                return Err(FormatError::whole(format!("two mirrors write to {}", places[i])));
            }
        }
        Ok(Self { publish: file.publish, mirrors, has_headers, secret })
    }
}

/// A number of bytes, or a text with a unit.
fn rate<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<u64>, D::Error> {
    let text = match toml::Value::deserialize(value)? {
        toml::Value::String(text) => text,
        toml::Value::Integer(number) => number.to_string(),
        _ => return Err(serde::de::Error::custom("rate: expected bytes per second, such as 2000000 or \"2M\"")),
    };
    units::rate(&text).map(Some).map_err(|e| serde::de::Error::custom(format!("rate: {e}")))
}

fn codec<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Codec>, D::Error> {
    String::deserialize(value)?.parse().map(Some).map_err(serde::de::Error::custom)
}

impl Table {
    /// Whether a header has a value that is not a variable's.
    fn has_headers(&self) -> bool {
        let tables = self.access.values().filter_map(toml::Value::as_table);
        tables.flat_map(toml::Table::values).any(|value| value.as_str().is_none_or(|text| !text.contains("${")))
    }
}

/// The mirror of a table, and of the same as it is written.
fn mirror((table, written): (Table, Table)) -> Result<Mirror, FormatError> {
    let wrong =
        |key: &str, e: &dyn std::fmt::Display| FormatError::whole(format!("mirror `{}`: {key}: {e}", table.name));
    let name = table.name.parse().map_err(|e| wrong("name", &e))?;
    let write: WritePlace = table.write.parse().map_err(|e: WriteError| match e {
        WriteError::Scheme(_) if table.write != written.write => wrong("write", &"unknown protocol"),
        e => wrong("write", &e),
    })?;
    let read = table
        .read
        .as_deref()
        .map(str::parse)
        .transpose()
        .map_err(|e: crate::format::url::UrlError| wrong("read", &e))?;
    if table.jobs == Some(0) {
        return Err(wrong("jobs", &"at least 1"));
    }
    let access = access(&write, &written.write, &table.access).map_err(|(key, why)| wrong(key, &why))?;
    let read_back = table.read_back.unwrap_or(true);
    Ok(Mirror { name, write, read, read_back, jobs: table.jobs, rate: table.rate, access })
}

/// The values of the protocol-specific keys of `write`; else the first key that is unknown to the protocol or has an
/// invalid value, and why.
fn access<'a>(
    write: &WritePlace,
    written: &str,
    table: &'a BTreeMap<String, toml::Value>,
) -> Result<Values, (&'a str, String)> {
    let keys = match write {
        WritePlace::Directory(_) => &[],
        WritePlace::Remote(remote) => protocols::find(remote.scheme).map_or(&[][..], |(protocol, _)| protocol.keys),
    };
    let value = |(name, value): (&'a String, &toml::Value)| {
        let key = keys.iter().find(|key| key.name == *name);
        let key = key.ok_or_else(|| (&**name, format!("of no use to a mirror that is written to {written}")))?;
        Ok((key.name, held(key.kind, value).map_err(|why| (&**name, why))?))
    };
    table.iter().map(value).collect::<Result<_, _>>().map(Values)
}

fn held(kind: KeyKind, value: &toml::Value) -> Result<Value, String> {
    let text = |value: &toml::Value| value.as_str().map(str::to_owned);
    let (held, expected) = match kind {
        KeyKind::Text | KeyKind::File | KeyKind::Variable => (text(value).map(Value::Text), "a text"),
        KeyKind::Flag => (value.as_bool().map(Value::Flag), "true or false"),
        KeyKind::Texts => {
            let texts = |table: &toml::Table| {
                table.iter().map(|(name, value)| Some((name.clone(), text(value)?))).collect::<Option<_>>()
            };
            (value.as_table().and_then(texts).map(Value::Texts), "a table of texts")
        }
    };
    held.ok_or_else(|| format!("expected {expected}"))
}
