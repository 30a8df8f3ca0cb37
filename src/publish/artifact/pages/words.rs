//! Numbers and times as people read them, for templates.

use minijinja::{Value, context};

use crate::format::time::Timestamp;

const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A size: `text` is short, `exact` has all digits, `bytes` is the number.
pub fn size(bytes: u64) -> Value {
    context! { text => short(bytes), exact => exact(bytes), bytes }
}

/// A time: `text` in words, `short` for tables, `iso` for programs.
pub fn time(time: Timestamp) -> Value {
    let iso = time.to_string();
    let part = |from: usize, to: usize| iso.get(from..to).unwrap_or_default();
    let month = part(5, 7).parse::<usize>().ok().and_then(|month| MONTHS.get(month.checked_sub(1)?)).unwrap_or(&"");
    let (year, day, clock) = (part(0, 4), part(8, 10).trim_start_matches('0'), part(11, 16));
    let text = format!("{day} {month} {year}, {clock} UTC");
    context! { text, short => format!("{day} {} {year}", &month[..month.len().min(3)]), clock, iso }
}

/// `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let grouped = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    grouped.collect::<Vec<_>>().join(",")
}

/// `1,234,567 bytes`.
fn exact(bytes: u64) -> String {
    format!("{} {}", count(bytes), if bytes == 1 { "byte" } else { "bytes" })
}

/// Three digits and a unit: `1.25 GiB`.
pub fn short(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, None);
    // What would be rounded to 1024 is one of the next unit.
    for name in UNITS {
        if value < 1023.5 || bytes < 1024 {
            break;
        }
        (value, unit) = (value / 1024.0, Some(name));
    }
    let Some(unit) = unit else { return exact(bytes) };
    let digits = match value {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {unit}")
}

/// A part of a whole, in percent: `0 %`, `< 0.1 %`, `3.2 %`, `45 %`.
pub fn percent(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        return "0 %".into();
    }
    match part as f64 * 100.0 / whole as f64 {
        ..0.1 => "< 0.1 %".into(),
        share @ ..9.95 => format!("{share:.1} %"),
        share => format!("{share:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_never_1024_of_a_unit() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1,023 bytes"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (1_048_575, "1 MiB"),
            (1 << 31, "2 GiB"),
            (12_900_000, "12.3 MiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(short(bytes), text);
        }
        assert_eq!((count(0), count(999), count(1_234_567)), ("0".into(), "999".into(), "1,234,567".into()));
        assert_eq!(
            [percent(0, 5), percent(1, 5000), percent(1, 30), percent(5, 5)],
            ["0 %", "< 0.1 %", "3.3 %", "100 %"]
        );
    }

    #[test]
    fn times_are_words() {
        let shown = time(Timestamp::from_unix(1_796_126_220));
        assert_eq!(shown.get_attr("text").unwrap().to_string(), "1 December 2026, 11:57 UTC");
        assert_eq!(shown.get_attr("short").unwrap().to_string(), "1 Dec 2026");
        assert_eq!(shown.get_attr("iso").unwrap().to_string(), "2026-12-01T11:57:00Z");
    }
}
