//! User-visible names: image names, version numbers and version labels.

use std::fmt;
use std::str::FromStr;

/// Maximum length of an image name, in bytes.
pub const NAME_MAX_BYTES: usize = 64;
/// Maximum length of a version label, in characters.
pub const LABEL_MAX_CHARS: usize = 64;

/// An image name: 1 to 64 of `a-z 0-9 . _ -`, beginning with a letter or a digit.
///
/// It is a path component on every mirror, so it can never escape its directory, look like an option, or differ from
/// another name only by case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A valid name similar to `text`, for a hint: lower case, each invalid character replaced by `-`.
    pub fn suggest(text: &str) -> Option<Name> {
        let legal = |c: char| if is_name_char(c) { c } else { '-' };
        let text: String = text.to_lowercase().chars().map(legal).take(NAME_MAX_BYTES).collect();
        text.trim_matches(['-', '.', '_']).parse().ok()
    }
}

fn is_name_char(c: char) -> bool {
    matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-')
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_MAX_BYTES {
            return Err(NameError::Long(text.len()));
        }
        if let Some(c) = text.chars().find(|&c| !is_name_char(c)) {
            return Err(NameError::Char(c));
        }
        if text.starts_with(['.', '_', '-']) {
            return Err(NameError::Start);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not an image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The empty text.
    #[error("the name is empty")]
    Empty,
    /// More bytes than [`NAME_MAX_BYTES`].
    #[error("the name has {0} bytes, at most {NAME_MAX_BYTES} are allowed")]
    Long(usize),
    /// A character outside the alphabet.
    #[error("{0:?} is not allowed in a name (allowed: a-z 0-9 . _ -)")]
    Char(char),
    /// A first character that could make the name an option or a hidden file.
    #[error("a name begins with a letter or a digit")]
    Start,
}

/// The number of a version: 1, 2, 3, ...
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Version(u32);

impl Version {
    /// The first version of an image.
    pub const FIRST: Version = Version(1);

    /// `number` as a version; `None` for 0 and for more than 32 bits.
    pub fn new(number: u64) -> Option<Self> {
        u32::try_from(number).ok().filter(|&n| n > 0).map(Self)
    }

    /// The number.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The version after this one; `None` after the largest number.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let canonical = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
        let number = text.parse().ok().filter(|_| canonical);
        number.and_then(Version::new).ok_or(VersionError)
    }
}

/// The error for a text that is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a version is a number from 1 to 4294967295")]
pub struct VersionError;

/// A publisher's label for a version: 1 to 64 characters, no control characters, no space at either end, not `-`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Label(String);

impl Label {
    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let fits = (1..=LABEL_MAX_CHARS).contains(&text.chars().count());
        let plain = !text.chars().any(char::is_control) && text.trim() == text && text != "-";
        if fits && plain { Ok(Self(text.to_owned())) } else { Err(LabelError) }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The error for a text that is not a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a label has 1 to {LABEL_MAX_CHARS} characters, no control characters, no space at its ends, and is not `-`")]
pub struct LabelError;
