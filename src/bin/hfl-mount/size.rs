//! Sizes on the command line.

/// Reads whole numbers with a binary unit: `4096`, `512M`, `4G`.
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
