//! A list of mirrors in a text file: one base URL per line; empty lines and lines that begin with `#` are ignored.

use crate::format::FormatError;
use crate::format::url::BaseUrl;

/// The largest mirror list, in bytes.
pub const FILE_MAX_BYTES: u64 = 1 << 20;
/// The most mirrors a client uses.
pub const MIRRORS_MAX: usize = 256;

/// Parses a mirror list.
///
/// # Errors
/// A line that is not a base URL; a file without mirrors, with too many, or that is not text.
pub fn parse(file: &[u8]) -> Result<Vec<BaseUrl>, FormatError> {
    if file.len() as u64 > FILE_MAX_BYTES {
        return Err(FormatError::whole(format!("more than {FILE_MAX_BYTES} bytes, no list of mirrors")));
    }
    let text = std::str::from_utf8(file).map_err(|_| FormatError::whole("not a text (UTF-8)"))?;
    let mut mirrors: Vec<BaseUrl> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let url = line.parse().map_err(|e: crate::format::url::UrlError| FormatError::line(number, e.to_string()))?;
        if mirrors.len() == MIRRORS_MAX {
            return Err(FormatError::line(number, format!("more than {MIRRORS_MAX} mirrors")));
        }
        if !mirrors.contains(&url) {
            mirrors.push(url);
        }
    }
    if mirrors.is_empty() {
        return Err(FormatError::whole("names no mirror; expected a base URL on each line"));
    }
    Ok(mirrors)
}
