//! mirrors.toml: where a repository is written and read, and the defaults of `hfl publish`.
//!
//! Unknown keys are rejected, with the line and the known key that was probably meant.

mod keys;
mod write;

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::format::block::Codec;
use crate::format::name::Name;
use crate::format::text::FormatError;
use crate::format::units;
use crate::format::url::BaseUrl;
use crate::store::key::{KeyKind, Value};
use crate::store::place::Values;
use crate::store::protocols;

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
        let holds_texts = |value: &Value| matches!(value, Value::Texts(texts) if !texts.is_empty());
        self.mirrors.iter().any(|mirror| mirror.access.0.values().any(holds_texts))
    }

    /// The environment variables it names, each of which holds a secret.
    pub fn secret_variables(&self) -> impl Iterator<Item = &str> {
        let variables = protocols::keys().filter(|key| key.kind == KeyKind::Variable);
        variables.flat_map(|key| self.mirrors.iter().filter_map(move |mirror| mirror.access.text(key)))
    }

    /// The repository with this mirror alone: a directory or a URL, as `write` in the file.
    ///
    /// # Errors
    /// No such place, or a protocol that needs more than its URL.
    pub fn of_place(write: &str) -> Result<Self, FormatError> {
        Self::parse(&format!("[[mirror]]\nname = \"mirror\"\nwrite = {}\n", toml::Value::from(write)))
    }

    /// Parses the text of a mirrors.toml.
    ///
    /// # Errors
    /// The first problem, with its line if known.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        keys::check(text)?;
        let file: File = toml::from_str(text).map_err(|e| keys::toml_error(text, &e))?;
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
        let enabled = file.mirror.into_iter().filter(|m| m.enabled != Some(false));
        let mirrors: Vec<Mirror> = enabled.map(mirror).collect::<Result<_, _>>()?;
        if mirrors.is_empty() {
            return Err(FormatError::whole("every mirror is disabled"));
        }
        for (i, mirror) in mirrors.iter().enumerate() {
            if mirrors[..i].iter().any(|other| other.name == mirror.name) {
                return Err(FormatError::whole(format!("two mirrors are named {}", mirror.name)));
            }
            if mirrors[..i].iter().any(|other| other.write == mirror.write) {
                return Err(FormatError::whole(format!("two mirrors write to {}", mirror.write)));
            }
        }
        Ok(Self { publish: file.publish, mirrors })
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

fn mirror(table: Table) -> Result<Mirror, FormatError> {
    let wrong =
        |key: &str, e: &dyn std::fmt::Display| FormatError::whole(format!("mirror `{}`: {key}: {e}", table.name));
    let name = table.name.parse().map_err(|e| wrong("name", &e))?;
    let write: WritePlace = table.write.parse().map_err(|e: WriteError| wrong("write", &e))?;
    let read = table
        .read
        .as_deref()
        .map(str::parse)
        .transpose()
        .map_err(|e: crate::format::url::UrlError| wrong("read", &e))?;
    if table.jobs == Some(0) {
        return Err(wrong("jobs", &"at least 1"));
    }
    let access = access(&write, &table.access).map_err(|(key, why)| wrong(key, &why))?;
    let read_back = table.read_back.unwrap_or(true);
    Ok(Mirror { name, write, read, read_back, jobs: table.jobs, rate: table.rate, access })
}

/// The values of the protocol-specific keys of `write`; else the first key that is unknown to the protocol or has an
/// invalid value, and why.
fn access<'a>(write: &WritePlace, table: &'a BTreeMap<String, toml::Value>) -> Result<Values, (&'a str, String)> {
    let keys = match write {
        WritePlace::Directory(_) => &[],
        WritePlace::Remote(remote) => protocols::find(remote.scheme).map_or(&[][..], |(protocol, _)| protocol.keys),
    };
    let value = |(name, value): (&'a String, &toml::Value)| {
        let key = keys.iter().find(|key| key.name == *name);
        let key = key.ok_or_else(|| (&**name, format!("of no use to a mirror that is written to {write}")))?;
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
