//! The value of `--split`: a rule by name.

use super::rule::{PageSize, Rule};
use std::str::FromStr;

/// `content`, `fixed`, `fixed:SIZE`, `pages`, `pages:SIZE` or `bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice(pub Rule);

/// Why a text is not a value of `--split`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// An unknown name.
    #[error("unknown --split `{0}` (expected content, fixed[:SIZE], pages[:SIZE] or bytes)")]
    Name(String),
    /// The size of `fixed` is not a number with a unit.
    #[error("invalid block size `{0}` (expected bytes or a unit, as in fixed:262144, fixed:256K or fixed:1M)")]
    Size(String),
    /// The size of `fixed` is out of range.
    #[error("blocks of {0} are not allowed; the size lies between 4K and 4M and is a multiple of 512 bytes")]
    Range(String),
    /// The size of `pages` is not one that file systems use.
    #[error("pages of {0} are not allowed; expected pages:1K, pages:2K or pages:4K")]
    Page(String),
}

impl FromStr for Choice {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Choice, ChoiceError> {
        let rule = match text.split_once(':') {
            None => named(text),
            Some(("fixed", size)) => fixed(size),
            Some(("pages", size)) => pages(size),
            Some(_) => Err(ChoiceError::Name(text.into())),
        };
        rule.map(Choice)
    }
}

fn named(text: &str) -> Result<Rule, ChoiceError> {
    match text {
        "content" => Ok(Rule::Content),
        "fixed" => Ok(Rule::Fixed(Rule::FIXED_DEFAULT_BYTES)),
        "pages" => Ok(Rule::PAGES),
        "bytes" => Ok(Rule::Bytes),
        _ => Err(ChoiceError::Name(text.into())),
    }
}

fn fixed(size: &str) -> Result<Rule, ChoiceError> {
    let bytes = bytes(size)?;
    bytes.and_then(|bytes| Rule::fixed(bytes).ok()).ok_or_else(|| ChoiceError::Range(size.into()))
}

fn pages(size: &str) -> Result<Rule, ChoiceError> {
    let bytes = bytes(size)?;
    let known = PageSize::ALL.into_iter().find(|page| Some(page.bytes()) == bytes);
    known.map(Rule::Pages).ok_or_else(|| ChoiceError::Page(size.into()))
}

/// A number of bytes; `None` if it is too large. Units are powers of 1024, in upper or lower case.
fn bytes(size: &str) -> Result<Option<u64>, ChoiceError> {
    let (digits, unit) = match size.strip_suffix(['k', 'K', 'm', 'M']) {
        Some(digits) if size.ends_with(['k', 'K']) => (digits, 1 << 10),
        Some(digits) => (digits, 1 << 20),
        None => (size, 1),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ChoiceError::Size(size.into()));
    }
    Ok(digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)))
}
