//! `--split content`.

use super::rule::Rule;

/// The rule that suits the image.
pub fn choose(_size: Option<u64>, _read_at: &mut dyn FnMut(u64, &mut [u8]) -> bool) -> Rule {
    Rule::Pages
}
