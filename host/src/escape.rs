//! Text of strangers, made fit for one line.

use std::fmt::Write as _;

/// Text on one line, at most `longest` characters of it, with everything escaped
/// that a terminal, an editor or a log reader could take for a line end or a
/// command.
#[must_use]
pub fn escape(text: &str, longest: usize) -> String {
    let mut line = String::new();
    for (at, c) in text.chars().enumerate() {
        if at >= longest {
            line.push('…');
            break;
        }
        match u32::from(c) {
            code if is_hostile(c) && code < 0x100 => {
                let _ = write!(line, "\\x{code:02x}");
            }
            code if is_hostile(c) => {
                let _ = write!(line, "\\u{{{code:x}}}");
            }
            _ => line.push(c),
        }
    }
    line
}

/// Control characters, line and paragraph separators, marks that turn the direction
/// of text, and the replacement character's neighbours that are no characters.
#[must_use]
pub fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{feff}'
            | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_stays_one_line() {
        let text = "a\nb\r\t\0\u{85}\u{2028}\u{202e}\u{1b}[31mc";
        assert_eq!(
            escape(text, 100),
            "a\\x0ab\\x0d\\x09\\x00\\x85\\u{2028}\\u{202e}\\x1b[31mc"
        );
        assert_eq!(escape("abcdef", 3), "abc…");
    }
}
