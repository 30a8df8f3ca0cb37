//! Progress on a terminal: a line for the phase, and one for each mirror; cut at the width of the terminal.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::standing::{Standing, Traffic};
use crate::show::{bytes, count, seconds};
use crate::terminal::{self, Colour};

/// Characters of a bar, and the columns that a name of a mirror takes at most.
const BAR_CHARS: u64 = 16;
const NAME_MAX_CHARS: usize = 16;
/// What turns while there is no measure.
const WHEEL: [&str; 4] = ["|", "/", "-", "\\"];

/// The lines.
#[derive(Debug)]
pub struct Bars {
    all: MultiProgress,
    main: ProgressBar,
    mirrors: BTreeMap<String, ProgressBar>,
    is_utf8: bool,
    turns: usize,
}

impl Bars {
    pub fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let main = line_of(&all);
        Self { all, main, mirrors: BTreeMap::new(), is_utf8: terminal::is_utf8(), turns: 0 }
    }

    /// Prints a line above.
    pub fn print(&self, text: &str) {
        // A standard error stream that cannot be written to is ignored.
        let _ = self.suspend(|| writeln!(io::stderr(), "{text}"));
    }

    /// Removes the lines while something else is printed.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.all.suspend(print)
    }

    /// Shows where the operation stands.
    pub fn draw(&mut self, standing: &Standing) {
        self.turns += 1;
        let columns = terminal::columns();
        self.main.set_message(self.fitted(&self.phase(standing), columns));
        let width = standing.mirrors.keys().map(|name| name.chars().count()).max().unwrap_or(0).min(NAME_MAX_CHARS);
        for (name, traffic) in &standing.mirrors {
            let text = self.fitted(&format!("{name:width$.width$} {}", self.mirror(traffic)), columns);
            self.mirrors.entry(name.clone()).or_insert_with(|| line_of(&self.all)).set_message(text);
        }
    }

    /// Removes the lines.
    pub fn clear(&self) {
        // Lines that cannot be cleared are gone with the terminal.
        let _ = self.all.clear();
    }

    fn phase(&self, standing: &Standing) -> String {
        let (what, elapsed) = (standing.what(), standing.since.elapsed());
        let wheel = WHEEL[self.turns % WHEEL.len()];
        let Some((done, total)) = standing.measure() else { return format!("{wheel} {what} {}", seconds(elapsed)) };
        let rate = done as f64 / elapsed.as_secs_f64().max(0.1);
        let mut text = match total {
            Some(total) => format!("{} {what} {} of {}", self.bar(done, total), bytes(done), bytes(total)),
            None => format!("{wheel} {what} {}", bytes(done)),
        };
        text += &format!(", {}/s", bytes(rate as u64));
        if let (Some(total), true) = (total, elapsed.as_secs() >= 2 && done > 0) {
            let left = total.saturating_sub(done) as f64 / rate.max(1.0);
            text += &format!(", {} left", seconds(std::time::Duration::from_secs_f64(left.min(1e9))));
        }
        if standing.counts_blocks() {
            text += &format!("; blocks: {} new, {} known", count(standing.new_blocks), count(standing.known_blocks));
        }
        text
    }

    /// A mirror's traffic: a bar only for what has a fixed total.
    fn mirror(&self, traffic: &Traffic) -> String {
        match traffic.to_check {
            0 => traffic.text(),
            total => format!("{} {}", self.bar(traffic.checked, total), traffic.text()),
        }
    }

    fn bar(&self, done: u64, total: u64) -> String {
        let full = (done.min(total) * BAR_CHARS).checked_div(total).unwrap_or(BAR_CHARS) as usize;
        let [part, rest] = self.parts();
        format!("[{}{}]", part.repeat(full), rest.repeat(BAR_CHARS as usize - full))
    }

    /// What a bar is made of: done, and not done yet.
    fn parts(&self) -> [&'static str; 2] {
        if self.is_utf8 { ["█", "░"] } else { ["#", "."] }
    }

    /// The text, cut so that the last column stays free, with its bar in colour.
    fn fitted(&self, text: &str, columns: usize) -> String {
        let text: String = text.chars().take(columns.saturating_sub(1)).collect();
        let part = self.parts()[0];
        let bar = part.repeat(text.matches(part).count());
        if bar.is_empty() { text } else { text.replacen(&bar, &terminal::coloured(&bar, Colour::Green), 1) }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A line that is cut at the width of the terminal.
fn line_of(all: &MultiProgress) -> ProgressBar {
    let line = all.add(ProgressBar::new_spinner());
    if let Ok(style) = ProgressStyle::with_template("{msg}") {
        line.set_style(style);
    }
    line
}
