//! Sizes, rates and times as people write them, on every command line and in mirrors.toml.

use std::time::Duration;

/// Seconds of a day.
const DAY: u64 = 86_400;

/// A size in bytes: `4096`, or with a binary unit, `512K`, `20M`, `4G`, `1T`.
///
/// # Errors
/// No such number or unit; more than 64 bits.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text[digits.len()..].trim_end_matches("iB").to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        unit => return Err(format!("unknown unit `{unit}`, expected K, M, G or T")),
    };
    let number: u64 = digits.parse().map_err(|_| "expected a number like 4096, 512M or 4G".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".into())
}

/// A rate in bytes per second, at least 1: a size, also with `/s`.
///
/// # Errors
/// As for [`bytes()`]; zero.
pub fn rate(text: &str) -> Result<u64, String> {
    match bytes(text.strip_suffix("/s").unwrap_or(text))? {
        0 => Err("at least 1 byte per second".into()),
        rate => Ok(rate),
    }
}

/// A time longer than nothing: a number of seconds, or numbers with units, `250ms`, `90s`, `10m`, `1h 30m`, `7d`.
///
/// # Errors
/// No such number or unit; zero.
pub fn time(text: &str) -> Result<Duration, String> {
    let time = match text.parse::<u32>() {
        Ok(seconds) => Duration::from_secs(seconds.into()),
        Err(_) => with_units(text)?,
    };
    if time.is_zero() { Err("at least a moment is needed, such as 1s".into()) } else { Ok(time) }
}

/// Whole days: a number of days, or a time of whole days, `7d`, `2w`.
///
/// # Errors
/// No such number or unit; parts of a day; more than 32 bits.
pub fn days(text: &str) -> Result<u32, String> {
    if let Ok(days) = text.parse() {
        return Ok(days);
    }
    let seconds = with_units(text)?.as_secs();
    let days = u32::try_from(seconds / DAY).map_err(|_| "too long".to_owned())?;
    if seconds % DAY == 0 { Ok(days) } else { Err("whole days are expected, such as 7d".into()) }
}

fn with_units(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("{e}; expected a time like 90s, 10m, 2h or 7d"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_for_all() {
        assert_eq!(["4096", "512K", "20MiB", "4g", "1T", "0"].map(|text| bytes(text).ok()), {
            [Some(4096), Some(512 << 10), Some(20 << 20), Some(4 << 30), Some(1 << 40), Some(0)]
        });
        assert!(["", "K", "-1", "1.5M", "4X", "99999999999T"].iter().all(|text| bytes(text).is_err()));
        assert_eq!((rate("10M/s"), rate("6250000")), (Ok(10 << 20), Ok(6_250_000)));
        assert!(rate("0").is_err());
        let seconds = |text: &str| time(text).map(|time| time.as_secs_f64()).ok();
        assert_eq!(["90", "90s", "10m", "1h 30m", "250ms"].map(seconds), {
            [Some(90.0), Some(90.0), Some(600.0), Some(5400.0), Some(0.25)]
        });
        assert!(["", "0", "0s", "-1s", "1x"].iter().all(|text| time(text).is_err()));
        assert_eq!(["7", "7d", "2w", "0", "0d"].map(days), [Ok(7), Ok(7), Ok(14), Ok(0), Ok(0)]);
        assert!(days("36h").is_err() && days("x").is_err());
    }
}
