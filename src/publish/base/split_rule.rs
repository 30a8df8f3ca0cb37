//! The split rule of a new version: that of the version before, unless another is asked for.
//!
//! An image that is cut by another rule shares almost nothing with what mirrors and clients already hold.

use super::Base;
use crate::format::index::Split;
use crate::split::Rule;

/// The rule by which the next version is cut, and a warning if it would surprise. `asked` is for this version, `first`
/// for images without an earlier one.
pub fn of_next(base: &Base, asked: Option<Rule>, first: Option<Rule>) -> (Rule, Option<String>) {
    let default = first.unwrap_or(Rule::Content);
    let Some(head) = &base.head else { return (asked.unwrap_or(default), None) };
    let (newest, before) = (head.newest().version, base.newest().map(|index| &index.header().split));
    let known = before.and_then(|split| Rule::try_from(split).ok());
    let rule = asked.or(known).unwrap_or(default);
    let warning = match before {
        None => Some(format!(
            "no mirror has a good index of version {newest}, so its split rule is not known; the image is cut by `{rule}`"
        )),
        Some(before) if *before != Split::from(rule) => Some(format!(
            "cut by `{rule}`, otherwise than version {newest}, which was cut by `{before}`: almost nothing is shared with it"
        )),
        Some(_) if asked.is_none() && first.is_some_and(|first| first != rule) => Some(format!(
            "cut by `{rule}`, like version {newest}; `split` of mirrors.toml says `{default}`, which counts for first \
             versions: --split changes the rule, and almost nothing would be shared"
        )),
        Some(_) => None,
    };
    (rule, warning)
}
