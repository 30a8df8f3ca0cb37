//! Where an image is cut into blocks: the rule and its revision, as the index names it.

use std::fmt;
use std::str::FromStr;

/// How an image was cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// Blocks of this many bytes at fixed positions.
    Fixed(u32),
    /// Borders chosen from the contents of 4 KiB pages.
    Pages,
    /// Borders chosen by content at any byte.
    Bytes,
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
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pages 1" => Ok(Rule::Pages),
            "bytes 1" => Ok(Rule::Bytes),
            _ => text.strip_prefix("fixed ").and_then(|n| n.parse().ok()).map(Rule::Fixed).ok_or("no rule".into()),
        }
    }
}
