//! What a machine's console has shown, as far as it is kept: an image may print for ever.

/// The most that is kept, in bytes.
const KEPT_MAX_BYTES: usize = 1 << 20;
/// The lines that a report has of it.
const LINES: usize = 15;
/// The most of one of those lines, in characters.
const LINE_MAX_CHARS: usize = 300;

/// The text of a console.
#[derive(Debug, Default)]
pub struct Console {
    text: String,
    /// How much of the text was handed out.
    told: usize,
}

impl Console {
    /// Takes what the machine printed.
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

    /// Whether it has shown anything at all.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// What it showed since this was asked last.
    pub fn news(&mut self) -> String {
        let news = self.text[self.told..].to_owned();
        self.told = self.text.len();
        news
    }

    /// Whether it has shown this.
    pub fn has(&self, text: &str) -> bool {
        self.text.contains(text)
    }

    /// What stands behind `text` in its line, if it has shown that.
    pub fn after(&self, text: &str) -> Option<String> {
        let at = self.text.find(text)? + text.len();
        self.text[at..].lines().next().map(plain)
    }

    /// Its last lines.
    pub fn last_lines(&self) -> Vec<String> {
        let lines = self.text.lines().map(plain).filter(|line| !line.is_empty());
        let lines: Vec<String> = lines.collect();
        lines[lines.len().saturating_sub(LINES)..].to_vec()
    }
}

/// A line without what moves a terminal's cursor or changes its colours.
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
