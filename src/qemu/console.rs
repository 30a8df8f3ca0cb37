//! The console output of a machine; only its latest part is kept, as an image may print without end.

/// Limit of the kept text, in bytes.
const KEPT_MAX_BYTES: usize = 1 << 20;
/// Number of console lines in a report.
const LINES: usize = 15;
/// Limit of the length of such a line, in characters.
const LINE_MAX_CHARS: usize = 300;

/// Console text.
#[derive(Debug, Default)]
pub struct Console {
    text: String,
    /// Length of the text already returned by `news`, in bytes.
    told: usize,
}

impl Console {
    /// Appends output of the machine.
    pub fn push(&mut self, bytes: &[u8]) {
        self.text.push_str(&String::from_utf8_lossy(bytes));
        if self.text.len() > KEPT_MAX_BYTES {
            let mut cut = self.text.len() - KEPT_MAX_BYTES / 2;
            while !self.text.is_char_boundary(cut) {
                cut += 1;
            }
            self.text.drain(..cut);
            self.told = self.told.saturating_sub(cut);
        }
    }

    /// Whether there is no output yet.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The output since the last call.
    pub fn news(&mut self) -> String {
        let news = self.text[self.told..].to_owned();
        self.told = self.text.len();
        news
    }

    /// Whether the output contains this text.
    pub fn has(&self, text: &str) -> bool {
        self.text.contains(text)
    }

    /// The rest of the line after `text`, if the output contains it.
    pub fn after(&self, text: &str) -> Option<String> {
        let at = self.text.find(text)? + text.len();
        self.text[at..].lines().next().map(plain)
    }

    /// The last non-empty lines.
    pub fn last_lines(&self) -> Vec<String> {
        let lines = self.text.lines().map(plain).filter(|line| !line.is_empty());
        let lines: Vec<String> = lines.collect();
        lines[lines.len().saturating_sub(LINES)..].to_vec()
    }
}

/// A line without terminal escape sequences and control characters.
fn plain(line: &str) -> String {
    let mut out = String::new();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                if chars.next_if(|c| *c == '[').is_some() {
                    while chars.next().is_some_and(|c| !c.is_ascii_alphabetic()) {}
                }
            }
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out.trim().chars().take(LINE_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_what_is_new_and_keeps_what_is_last() {
        let mut console = Console::default();
        console.push(b"\x1b[2J\x1b[01;32mhfl: cannot boot: no network\x1b[0m card\r\nnext");
        assert_eq!(console.after("cannot boot: ").as_deref(), Some("no network card"));
        assert_eq!(console.last_lines(), ["hfl: cannot boot: no network card", "next"]);
        assert!(console.news().ends_with("next") && console.news().is_empty());
        let line = "ä".repeat(500) + "\n";
        (0..3000).for_each(|_| console.push(line.as_bytes()));
        console.push("login: ".as_bytes());
        assert!(console.text.len() <= KEPT_MAX_BYTES && console.has("login:"));
        assert!(console.news().len() <= KEPT_MAX_BYTES && console.news().is_empty());
        assert_eq!(console.last_lines()[0].chars().count(), LINE_MAX_CHARS);
    }
}
