//! The splitting rules this program implements, each with its text in an index.
//!
//! Invariant: each rule has one legal text, and `Display` writes exactly what `FromStr` reads.

use std::fmt;
use std::str::FromStr;

use crate::format::index::{Split, SplitError};

/// A rule and its revision: `content 2`, `fixed 262144`, `pages 1`, `pages 1 1024`, `bytes 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Each partition by the rule that suits the file system in it; the files of an ext4 in the order of their paths.
    Content,
    /// The same without regard to files.
    Content1,
    /// Blocks of this many bytes at fixed offsets. [`Rule::fixed`] checks the size.
    Fixed(u32),
    /// Boundaries chosen from the contents of pages.
    Pages(PageSize),
    /// Boundaries chosen by a rolling hash, at any byte.
    Bytes,
}

/// Size of a page, which is that of the file system's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageSize {
    /// 1024 bytes.
    OneKib,
    /// 2048 bytes.
    TwoKib,
    /// 4096 bytes, also for larger blocks.
    FourKib,
}

impl PageSize {
    /// All sizes.
    pub const ALL: [PageSize; 3] = [PageSize::OneKib, PageSize::TwoKib, PageSize::FourKib];

    /// Size in bytes.
    pub fn bytes(self) -> u64 {
        match self {
            PageSize::OneKib => 1024,
            PageSize::TwoKib => 2048,
            PageSize::FourKib => 4096,
        }
    }
}

impl Rule {
    /// `pages` with pages of 4096 bytes.
    pub const PAGES: Rule = Rule::Pages(PageSize::FourKib);
    /// All rules, for messages.
    const KNOWN: &str =
        "`content 1`, `content 2`, `fixed BYTES`, `pages 1`, `pages 1 1024`, `pages 1 2048` and `bytes 1`";
    /// The smallest block of `fixed`, in bytes.
    pub const FIXED_MIN_BYTES: u32 = 4096;
    /// The largest block of `fixed`, in bytes; an index allows none larger.
    pub const FIXED_MAX_BYTES: u32 = 4 << 20;
    /// Sizes of `fixed` are multiples of a disk sector, in bytes.
    pub const FIXED_STEP_BYTES: u32 = 512;
    /// The default size of `fixed`, in bytes.
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

/// Why this program cannot apply a rule. Readers never need to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The size of `fixed` is out of range.
    #[error("split rule `fixed {0}`: a block has 4096 to 4194304 bytes, a multiple of 512")]
    Size(String),
    /// A known rule in an unknown revision.
    #[error("split rule `{0}`: this hfl knows {known}; update hfl", known = Rule::KNOWN)]
    Revision(Split),
    /// No rule has this name.
    #[error("split rule `{0}`: this hfl knows {known}; a newer hfl may know more, update hfl", known = Rule::KNOWN)]
    Unknown(Split),
    /// Not in the form of a rule.
    #[error(transparent)]
    Form(#[from] SplitError),
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Content => f.write_str("content 2"),
            Rule::Content1 => f.write_str("content 1"),
            Rule::Fixed(bytes) => write!(f, "fixed {bytes}"),
            Rule::Pages(PageSize::FourKib) => f.write_str("pages 1"),
            Rule::Pages(size) => write!(f, "pages 1 {}", size.bytes()),
            Rule::Bytes => f.write_str("bytes 1"),
        }
    }
}

impl From<Rule> for Split {
    fn from(rule: Rule) -> Split {
        Split::known(&rule)
    }
}

impl TryFrom<&Split> for Rule {
    type Error = RuleError;

    fn try_from(split: &Split) -> Result<Rule, RuleError> {
        match split.words() {
            ("fixed", number, None) => fixed_from(number),
            ("content", "1", None) => Ok(Rule::Content1),
            ("content", "2", None) => Ok(Rule::Content),
            ("pages", "1", None) => Ok(Rule::PAGES),
            ("pages", "1", Some("1024")) => Ok(Rule::Pages(PageSize::OneKib)),
            ("pages", "1", Some("2048")) => Ok(Rule::Pages(PageSize::TwoKib)),
            ("bytes", "1", None) => Ok(Rule::Bytes),
            ("content" | "fixed" | "pages" | "bytes", ..) => Err(RuleError::Revision(split.clone())),
            _ => Err(RuleError::Unknown(split.clone())),
        }
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Rule, RuleError> {
        Rule::try_from(&text.parse::<Split>()?)
    }
}

fn fixed_from(number: &str) -> Result<Rule, RuleError> {
    let bytes: u64 = number.parse().map_err(|_| RuleError::Size(number.into()))?;
    Rule::fixed(bytes)
}
