//! What the terminal of standard error can show: colours, and characters beyond ASCII.

use std::io::{self, IsTerminal as _};

/// Whether standard error is a terminal on which lines can be drawn again.
pub fn is_drawable() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| !term.is_empty() && term != "dumb")
}

/// Columns of the terminal; 80 if they are not known.
pub fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr()).ok();
    size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80)
}

/// Whether colours are wanted there (`NO_COLOR`, if set and not empty, says no).
pub fn has_colours() -> bool {
    is_drawable() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether the locale has characters beyond ASCII.
pub fn is_utf8() -> bool {
    let set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find(set).and_then(std::env::var_os);
    let locale = locale.map(|locale| locale.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// A colour of the terminal.
#[derive(Debug, Clone, Copy)]
pub enum Colour {
    Red,
    Yellow,
    Green,
}

/// `text` in this colour, where standard error has colours.
pub fn coloured(text: &str, colour: Colour) -> String {
    if !has_colours() {
        return text.to_owned();
    }
    let code = match colour {
        Colour::Red => "1;31",
        Colour::Yellow => "33",
        Colour::Green => "32",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}
