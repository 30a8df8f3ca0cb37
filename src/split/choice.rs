//! The value of `--split`: a rule by name, or the one that suits the image.

use super::rule::Rule;
use std::str::FromStr;

/// `content`, `fixed`, `fixed:SIZE`, `pages` or `bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Chosen from the image; see [`choose`](super::choose()).
    #[default]
    Content,
    /// This rule, for any image.
    Rule(Rule),
}

/// Why a text is not a value of `--split`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// An unknown name.
    #[error("unknown --split `{0}` (expected content, fixed[:SIZE], pages or bytes)")]
    Name(String),
    /// The size of `fixed` is not a number with a unit.
    #[error("invalid block size `{0}` (expected bytes or a unit, as in fixed:262144, fixed:256K or fixed:1M)")]
    Size(String),
    /// The size of `fixed` is out of range.
    #[error("blocks of {0} are not allowed; the size lies between 4K and 4M and is a multiple of 512 bytes")]
    Range(String),
}

impl FromStr for Choice {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Choice, ChoiceError> {
        match text.split_once(':') {
            None => named(text),
            Some(("fixed", size)) => fixed(size).map(Choice::Rule),
            Some(_) => Err(ChoiceError::Name(text.into())),
        }
    }
}

fn named(text: &str) -> Result<Choice, ChoiceError> {
    match text {
        "content" => Ok(Choice::Content),
        "fixed" => Ok(Choice::Rule(Rule::Fixed(Rule::FIXED_DEFAULT_BYTES))),
        "pages" => Ok(Choice::Rule(Rule::Pages)),
        "bytes" => Ok(Choice::Rule(Rule::Bytes)),
        _ => Err(ChoiceError::Name(text.into())),
    }
}

/// Units are powers of 1024, in upper or lower case.
fn fixed(size: &str) -> Result<Rule, ChoiceError> {
    let (digits, unit) = match size.strip_suffix(['k', 'K', 'm', 'M']) {
        Some(digits) if size.ends_with(['k', 'K']) => (digits, 1 << 10),
        Some(digits) => (digits, 1 << 20),
        None => (size, 1),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ChoiceError::Size(size.into()));
    }
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes.and_then(|bytes| Rule::fixed(bytes).ok()).ok_or_else(|| ChoiceError::Range(size.into()))
}
