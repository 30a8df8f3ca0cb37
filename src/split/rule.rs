//! The name of a splitting rule as an index carries it: a rule and its revision.
//!
//! It is all that a reader needs to know about splitting, so it stands in the client too and depends on nothing of the
//! splitters themselves. Invariant: each rule has one legal text, and `Display` writes exactly what `FromStr` reads.

use std::fmt;
use std::str::FromStr;

/// A rule and its revision: `fixed 262144`, `pages 1`, `bytes 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Blocks of this many bytes at fixed positions. [`Rule::fixed`] checks the size.
    Fixed(u32),
    /// Borders chosen from the contents of 4 KiB pages.
    Pages,
    /// Borders chosen by a rolling hash, at any byte.
    Bytes,
}

impl Rule {
    /// The smallest block of `fixed`, in bytes.
    pub const FIXED_MIN_BYTES: u32 = 4096;
    /// The largest block of `fixed`, in bytes; an index allows none larger.
    pub const FIXED_MAX_BYTES: u32 = 4 << 20;
    /// Sizes of `fixed` are multiples of this: a disk sector, in bytes.
    pub const FIXED_STEP_BYTES: u32 = 512;
    /// The size of `fixed` where none is said, in bytes.
    pub const FIXED_DEFAULT_BYTES: u32 = 256 << 10;

    /// `fixed` with blocks of `bytes` bytes, if that size is allowed.
    pub fn fixed(bytes: u64) -> Result<Rule, RuleError> {
        u32::try_from(bytes)
            .ok()
            .filter(|size| (Self::FIXED_MIN_BYTES..=Self::FIXED_MAX_BYTES).contains(size))
            .filter(|size| size % Self::FIXED_STEP_BYTES == 0)
            .map(Rule::Fixed)
            .ok_or_else(|| RuleError::Size(bytes.to_string()))
    }
}

/// Why a text names no rule that this program can read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The size of `fixed` is outside what is allowed.
    #[error("split rule `fixed {0}`: a block has 4096 to 4194304 bytes, a multiple of 512")]
    Size(String),
    /// The rule is known, this revision of it is not.
    #[error("split rule `{rule} {revision}`: this hfl knows {rule} 1; update hfl")]
    Revision {
        /// Its name.
        rule: String,
        /// What stands behind the name.
        revision: String,
    },
    /// No rule has this name.
    #[error("split rule `{0}`: this hfl knows `fixed BYTES`, `pages 1` and `bytes 1`; a newer hfl may know more")]
    Unknown(String),
    /// Not a word and a number in their one legal spelling.
    #[error("split rule `{0}` is not written as a name, one space and a decimal number without leading zeros")]
    Form(String),
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Fixed(bytes) => write!(f, "fixed {bytes}"),
            Rule::Pages => f.write_str("pages 1"),
            Rule::Bytes => f.write_str("bytes 1"),
        }
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Rule, RuleError> {
        let (name, number) = text.split_once(' ').ok_or_else(|| RuleError::Form(text.into()))?;
        if !is_name(name) || !is_number(number) {
            return Err(RuleError::Form(text.into()));
        }
        match (name, number) {
            ("fixed", _) => fixed_from(number),
            ("pages", "1") => Ok(Rule::Pages),
            ("bytes", "1") => Ok(Rule::Bytes),
            ("pages" | "bytes", _) => Err(RuleError::Revision { rule: name.into(), revision: number.into() }),
            _ => Err(RuleError::Unknown(text.into())),
        }
    }
}

fn fixed_from(number: &str) -> Result<Rule, RuleError> {
    let bytes: u64 = number.parse().map_err(|_| RuleError::Size(number.into()))?;
    Rule::fixed(bytes)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase())
}

fn is_number(text: &str) -> bool {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits && (text == "0" || !text.starts_with('0'))
}
