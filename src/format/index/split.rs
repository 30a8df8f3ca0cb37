//! The split rule of an index: words that a reader checks for their form, keeps, and never interprets.
//!
//! A reader needs none of them, so an old program can read images cut by a newer rule. Only the publisher implements
//! the rules. Invariant: there is one legal text for each value.

use std::fmt;
use std::str::FromStr;

use super::LINE_MAX_BYTES;

/// Key of the header line.
pub(super) const KEY: &str = "split";
/// Maximum length of the text, in bytes: the line limit less the key and a space.
const TEXT_MAX_BYTES: usize = LINE_MAX_BYTES - KEY.len() - 1;
/// Maximum length of a name, in bytes.
const NAME_MAX_BYTES: usize = 32;

/// The name of a rule, its revision or parameter, and optional further words: `fixed 262144`, `pages 1`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Split(String);

/// The error for a text not in the form of a split rule.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a split rule is a name (a letter, then a-z 0-9 -, at most {NAME_MAX_BYTES}), a number without leading zeros, and \
     further names and numbers, with one space between them and at most {TEXT_MAX_BYTES} bytes"
)]
pub struct SplitError;

impl Split {
    /// The text of a rule that this program implements, and so in the right form.
    #[cfg(feature = "publish")]
    pub(crate) fn known(rule: &impl fmt::Display) -> Self {
        let text = rule.to_string();
        debug_assert!(text.parse::<Self>().is_ok());
        Self(text)
    }

    /// The rule's name, its revision or parameter, and the remaining words, if any.
    pub fn words(&self) -> (&str, &str, Option<&str>) {
        let mut words = self.0.splitn(3, ' ');
        (words.next().unwrap_or_default(), words.next().unwrap_or_default(), words.next())
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Split {
    type Err = SplitError;

    fn from_str(text: &str) -> Result<Self, SplitError> {
        let mut words = text.split(' ');
        let begins = words.next().is_some_and(is_name) && words.next().is_some_and(is_number);
        let fits = begins && words.all(|word| is_name(word) || is_number(word)) && text.len() <= TEXT_MAX_BYTES;
        if fits { Ok(Self(text.to_owned())) } else { Err(SplitError) }
    }
}

fn is_name(word: &str) -> bool {
    let letter = word.starts_with(|c: char| c.is_ascii_lowercase());
    let plain = word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    letter && plain && word.len() <= NAME_MAX_BYTES
}

fn is_number(word: &str) -> bool {
    let digits = word.bytes().all(|b| b.is_ascii_digit());
    digits && word.parse::<u64>().is_ok() && (word == "0" || !word.starts_with('0'))
}
