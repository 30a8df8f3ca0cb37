//! `${NAME}` in the values of mirrors.toml: environment variables are put in where places and headers are named.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::line_of;
use crate::format::text::FormatError;
use crate::store::key::{Key, KeyKind};
use crate::store::protocols;

/// The keys of `[publish]` that take variables: files and directories.
const PUBLISH: [&str; 3] = ["key", "client", "templates"];

/// Returns the value of an environment variable; `None` if it is not set, and `Some(Err)` if it is not UTF-8.
pub(super) type Lookup<'a> = dyn Fn(&str) -> Option<Result<String, ()>> + 'a;

/// Puts variables into the values of a mirrors.toml. Returns those in tables of texts (headers), which hold secrets.
///
/// # Errors
/// The first variable that is not set, or is empty, with its key and line; or that is used where none is put in.
pub(super) fn put_in(text: &str, file: &mut DeTable<'_>, lookup: &Lookup<'_>) -> Result<Vec<String>, FormatError> {
    let mut secret = Vec::new();
    for (section, value) in file.iter_mut() {
        match (section.get_ref().as_ref(), value.get_mut()) {
            ("publish", DeValue::Table(table)) => {
                Values { text, lookup }.table(table, &|key| PUBLISH.contains(&key), &mut secret)?;
            }
            ("mirror", DeValue::Array(tables)) => {
                for table in tables.iter_mut() {
                    if let DeValue::Table(table) = table.get_mut() {
                        Values { text, lookup }.table(table, &is_place, &mut secret)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(secret)
}

/// Keys of every mirror whose values are no places.
const NO_PLACES: [&str; 5] = ["name", "read-back", "enabled", "jobs", "rate"];

/// Whether this key of a mirror takes variables: a place, a file, a word or headers; none that names a variable itself.
fn is_place(key: &str) -> bool {
    let is_variable = |known: &Key| known.name == key && known.kind == KeyKind::Variable;
    !NO_PLACES.contains(&key) && !protocols::keys().any(|known| is_variable(&known))
}

struct Values<'a> {
    text: &'a str,
    lookup: &'a Lookup<'a>,
}

impl Values<'_> {
    fn table(
        &self,
        table: &mut DeTable<'_>,
        takes: &dyn Fn(&str) -> bool,
        secret: &mut Vec<String>,
    ) -> Result<(), FormatError> {
        for (key, value) in table.iter_mut() {
            let key = key.get_ref().as_ref();
            match value.get_mut() {
                DeValue::Array(values) => {
                    values.iter_mut().try_for_each(|value| self.value(key, value, takes(key)).map(drop))?;
                }
                DeValue::Table(values) => {
                    for value in values.iter_mut().map(|(_, value)| value) {
                        secret.extend(self.value(key, value, takes(key))?);
                    }
                }
                _ => drop(self.value(key, value, takes(key))?),
            }
        }
        Ok(())
    }

    /// Puts variables into a value, if it is a text. Returns their names.
    fn value(&self, key: &str, value: &mut Spanned<DeValue<'_>>, takes: bool) -> Result<Vec<String>, FormatError> {
        let line = line_of(self.text, value.span().start);
        let wrong = |why: String| FormatError::line(line, format!("`{key}`: {why}"));
        let DeValue::String(text) = value.get_mut() else { return Ok(Vec::new()) };
        let (replaced, names) = expand(text, self.lookup).map_err(wrong)?;
        if !takes && !names.is_empty() {
            let why = "no variable is put in here; they are in places, files and headers (`$${` is a plain `${`)";
            return Err(wrong(why.to_owned()));
        }
        if takes {
            *text = replaced.into();
        }
        Ok(names)
    }
}

/// `text` with the values of its variables, and their names; `$${` becomes `${`. Values are taken as they are.
fn expand(text: &str, lookup: &Lookup<'_>) -> Result<(String, Vec<String>), String> {
    let (mut out, mut names, mut rest) = (String::new(), Vec::new(), text);
    while let Some(at) = rest.find("${") {
        let (before, found) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            out += before;
            out += "${";
            rest = &found[2..];
            continue;
        }
        let (name, after) = found[2..].split_once('}').ok_or("`${` without `}` (`$${` is a plain `${`)")?;
        if !is_name(name) {
            return Err("`${...}` names a variable with letters, digits and `_` (`$${` is a plain `${`)".to_owned());
        }
        out += before;
        out += &match lookup(name) {
            None => return Err(format!("the environment variable {name} is not set")),
            Some(Err(())) => return Err(format!("the environment variable {name} is not UTF-8")),
            Some(Ok(value)) if value.is_empty() => return Err(format!("the environment variable {name} is empty")),
            Some(Ok(value)) => value,
        };
        names.push(name.to_owned());
        rest = after;
    }
    Ok((out + rest, names))
}

fn is_name(name: &str) -> bool {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(is_first) && name.chars().all(|c| is_first(c) || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        let lookup = |name: &str| match name {
            "A" => Some(Ok("x".to_owned())),
            "B_2" => Some(Ok("${A}".to_owned())),
            "EMPTY" => Some(Ok(String::new())),
            "BYTES" => Some(Err(())),
            _ => None,
        };
        expand(text, &lookup).map(|(text, _)| text)
    }

    #[test]
    fn values_are_put_in_as_they_are() {
        let cases = [
            ("", ""),
            ("a$b", "a$b"),
            ("${A}", "x"),
            ("-${A}${A}-", "-xx-"),
            ("${B_2}", "${A}"),
            ("$${A}", "${A}"),
            ("$$${A}", "$${A}"),
            ("$$ ${A}", "$$ x"),
            ("$${", "${"),
            ("$A {A}", "$A {A}"),
        ];
        for (text, expected) in cases {
            assert_eq!(expanded(text).as_deref(), Ok(expected), "{text}");
        }
        for (text, said) in [
            ("${NONE}", "NONE is not set"),
            ("${EMPTY}", "EMPTY is empty"),
            ("${BYTES}", "BYTES is not UTF-8"),
            ("${A", "without `}`"),
            ("${}", "names a variable"),
            ("${1}", "names a variable"),
            ("${A:-b}", "names a variable"),
        ] {
            assert!(expanded(text).is_err_and(|e| e.contains(said)), "{text}");
        }
    }
}
