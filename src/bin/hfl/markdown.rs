//! Texts of others in Markdown: job summaries and release notes show them, and they must not become markup there.

/// Characters that direct text, or that nobody sees: shown, they would disguise the text around them.
const HIDDEN: [std::ops::RangeInclusive<char>; 6] = [
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{061c}'..='\u{061c}',
    '\u{feff}'..='\u{feff}',
    '\u{e0000}'..='\u{e007f}',
];

/// `text` as code in a table's cell. Every ASCII character that is neither a letter nor a digit nor a space becomes an
/// entity, so that there is no markup, no cell's end, no link and no mention in it.
pub fn code(text: &str) -> String {
    let mut out = "<code>".to_owned();
    for c in text.chars() {
        match c {
            _ if c.is_control() || HIDDEN.iter().any(|hidden| hidden.contains(&c)) => out.push('\u{fffd}'),
            ' ' => out.push(' '),
            _ if c.is_ascii() && !c.is_ascii_alphanumeric() => out += &format!("&#{};", u32::from(c)),
            _ => out.push(c),
        }
    }
    out + "</code>"
}

#[cfg(test)]
mod tests {
    use super::code;

    #[test]
    fn nothing_in_a_text_is_markup() {
        let hostile = "</code>|<img src=x onerror=1> `a` **b** [c](http://d) @all #1 ~e~ \\ &lt; \u{202e}f\nwww.g.h";
        let shown = code(hostile);
        let inner = shown.strip_prefix("<code>").and_then(|rest| rest.strip_suffix("</code>")).unwrap();
        let mut rest = inner;
        while let Some(at) = rest.find('&') {
            let (_, entity) = rest.split_at(at);
            let end = entity.find(';').unwrap();
            assert!(entity[2..end].bytes().all(|b| b.is_ascii_digit()), "{entity}");
            rest = &entity[end + 1..];
        }
        for c in ['<', '>', '|', '`', '*', '[', ']', '(', '@', '~', '\\', '\n', '.', ':', '_', '\u{202e}'] {
            assert!(!inner.contains(c), "{c:?} in {inner}");
        }
        assert!(!inner.replace("&#", "").contains('#'));
    }

    #[test]
    fn letters_of_all_languages_stay() {
        assert_eq!(code("Übung 42 中"), "<code>Übung 42 中</code>");
    }
}
