//! Parses directory listings: MLSD (RFC 3659), and LIST in the form of `ls -l`.

/// A directory entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Listed {
    /// A regular file and its size in bytes.
    File(String, u64),
    /// A directory.
    Directory(String),
    /// Anything else: a link, a device, the directory itself, a header.
    Other,
}

/// Parses a line of MLSD: `type=file;size=12;modify=20260101000000; name`. `None` if it is malformed.
pub(super) fn machine_line(line: &str) -> Option<Listed> {
    let (facts, name) = line.split_once(' ')?;
    let (mut kind, mut bytes) = (None, None);
    for fact in facts.split(';').filter(|fact| !fact.is_empty()) {
        let (key, value) = fact.split_once('=')?;
        match key.to_ascii_lowercase().as_str() {
            "type" => kind = Some(value.to_ascii_lowercase()),
            "size" => bytes = Some(value.parse().ok()?),
            _ => {}
        }
    }
    match kind?.as_str() {
        "file" => Some(Listed::File(name.to_owned(), bytes?)),
        "dir" => Some(Listed::Directory(name.to_owned())),
        _ => Some(Listed::Other),
    }
}

/// Parses a line of LIST. `None` if it has another form; the DOS form is not supported.
pub(super) fn human_line(line: &str) -> Option<Listed> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    match *words.first()? {
        "total" => Some(Listed::Other),
        mode if mode.len() >= 10 && mode.starts_with(['-', 'd', 'l', 'c', 'b', 'p', 's']) => unix_line(mode, &words),
        _ => None,
    }
}

/// `-rw-r--r-- 1 user group 1234 Nov 5 13:46 name`; some servers omit the group, some write `2026-11-05 13:46`.
fn unix_line(mode: &str, words: &[&str]) -> Option<Listed> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let month = |word: &str| MONTHS.contains(&word.to_ascii_lowercase().as_str());
    let day = |word: &str| word.len() == 10 && word.bytes().filter(|&b| b == b'-').count() == 2;
    let date = (3..words.len()).find(|&i| words[i - 1].parse::<u64>().is_ok() && (month(words[i]) || day(words[i])));
    let kind = mode.as_bytes()[0];
    if !matches!(kind, b'-' | b'd') {
        return Some(Listed::Other);
    }
    let date = date?;
    let bytes = words[date - 1].parse().ok()?;
    let name = words.get(if month(words[date]) { date + 3 } else { date + 2 }..)?;
    entry(kind == b'd', bytes, name)
}

fn entry(is_directory: bool, bytes: u64, name: &[&str]) -> Option<Listed> {
    match (name, is_directory) {
        ([], _) => None,
        ([name], true) => Some(Listed::Directory((*name).to_owned())),
        ([name], false) => Some(Listed::File((*name).to_owned(), bytes)),
        // No name in a repository has a space.
        _ => Some(Listed::Other),
    }
}
