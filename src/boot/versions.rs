//! The order of kernel versions: `6.1.0-9` comes before `6.1.0-10`.

use std::cmp::Ordering;

/// Compares runs of digits as numbers and all else as text; if equal so far, the longer text is greater.
pub fn compare(a: &str, b: &str) -> Ordering {
    let whole = a.len().cmp(&b.len());
    let (mut a, mut b) = (a, b);
    while !a.is_empty() && !b.is_empty() {
        let (first, second) = (run(a), run(b));
        let order = match (first.starts_with(is_digit), second.starts_with(is_digit)) {
            (true, true) => {
                let (x, y) = (first.trim_start_matches('0'), second.trim_start_matches('0'));
                x.len().cmp(&y.len()).then_with(|| x.cmp(y))
            }
            _ => first.cmp(second),
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (&a[first.len()..], &b[second.len()..]);
    }
    a.len().cmp(&b.len()).then(whole)
}

/// The run of digits, or of other characters, at the start of a text.
fn run(text: &str) -> &str {
    let digits = text.starts_with(is_digit);
    let end = text.find(|c: char| is_digit(c) != digits).unwrap_or(text.len());
    &text[..end]
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_as_numbers() {
        let mut versions = ["6.1.0-56-cloud", "5.10.0", "6.1.0-9-cloud", "6.1", "6.12.1", "6.1.0-56-cloud-amd64"];
        versions.sort_by(|a, b| compare(a, b));
        assert_eq!(versions, ["5.10.0", "6.1", "6.1.0-9-cloud", "6.1.0-56-cloud", "6.1.0-56-cloud-amd64", "6.12.1"]);
        assert_eq!(compare("6.01", "6.1"), Ordering::Greater);
    }
}
