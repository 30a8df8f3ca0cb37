//! The keys of mirrors.toml, and errors for unknown ones.

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::format::text::FormatError;
use crate::store::protocols;

const TOP: [&str; 2] = ["publish", "mirror"];
const PUBLISH: [&str; 9] = ["split", "codec", "level", "deltas", "key", "expires-days", "client", "templates", "keep"];
/// The keys of all mirrors; further ones are protocol-specific.
const MIRROR: [&str; 7] = ["name", "write", "read", "read-back", "enabled", "jobs", "rate"];

/// Rejects the first unknown key, with its line and the key probably meant.
pub(super) fn check(text: &str) -> Result<(), FormatError> {
    let of_mirrors: Vec<&str> = MIRROR.into_iter().chain(protocols::keys().map(|key| key.name)).collect();
    let table = DeTable::parse(text).map_err(|e| toml_error(text, &e))?;
    for (key, value) in table.get_ref() {
        known(text, key, &TOP, "at the top of the file")?;
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("publish", DeValue::Table(table)) => keys(text, table, &PUBLISH, "in [publish]")?,
            ("mirror", DeValue::Array(tables)) => {
                for table in tables.iter() {
                    if let DeValue::Table(table) = table.get_ref() {
                        keys(text, table, &of_mirrors, "in [[mirror]]")?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn keys(text: &str, table: &DeTable<'_>, allowed: &[&str], place: &str) -> Result<(), FormatError> {
    table.keys().try_for_each(|key| known(text, key, allowed, place))
}

fn known(text: &str, key: &Spanned<DeString<'_>>, allowed: &[&str], place: &str) -> Result<(), FormatError> {
    let name = key.get_ref().as_ref();
    if allowed.contains(&name) {
        return Ok(());
    }
    let close = |a: &&&str| strsim::jaro_winkler(name, a) > 0.8;
    let meant = allowed
        .iter()
        .filter(close)
        .max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)));
    let hint = meant.map_or_else(|| format!("known: {}", allowed.join(", ")), |m| format!("did you mean `{m}`?"));
    Err(FormatError::line(line_of(text, key.span().start), format!("unknown key `{name}` {place}; {hint}")))
}

/// Converts a TOML parser error, in one line.
pub(super) fn toml_error(text: &str, error: &toml::de::Error) -> FormatError {
    let why = error.message().replace('\n', ", ");
    match error.span() {
        Some(span) => FormatError::line(line_of(text, span.start), why),
        None => FormatError::whole(why),
    }
}

/// The line of this byte, counted from 1.
pub(super) fn line_of(text: &str, offset: usize) -> u64 {
    1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|&&b| b == b'\n').count() as u64
}
