//! Text for people's eyes: of logs, which is hostile, and counts.

use std::borrow::Cow;
use std::fmt::Write as _;

use unicode_width::UnicodeWidthStr;

/// Columns of a terminal between two columns of a table.
pub const GAP: usize = 2;

/// A column of a table that fits nowhere has at least so many characters.
const LEAST_WIDTH: usize = 6;

/// Escapes what could move a cursor, change colours, hide or reorder text: control characters, and
/// Unicode's bidirectional and invisible format characters.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_hidden(c) => {
                // Writing to a string does not fail.
                let _infallible = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Whether [`escape`] replaces a character.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `1234567` as `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(d);
    }
    out
}

/// How many columns of a terminal a text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// How wide columns are so that all of them fit: the widest give most. `None`: they do not.
pub fn fit(mut widths: Vec<usize>, terminal: Option<usize>) -> Option<Vec<usize>> {
    let Some(terminal) = terminal else { return Some(widths) };
    let room = terminal.checked_sub(GAP * widths.len().saturating_sub(1))?;
    let mut sum: usize = widths.iter().sum();
    if sum <= room {
        return Some(widths);
    }
    let least: usize = widths.iter().map(|w| (*w).min(LEAST_WIDTH)).sum();
    if least > room {
        return None;
    }
    while sum > room {
        // The widest become as wide as the next one, or as is needed.
        let widest = widths.iter().copied().max()?;
        let next = widths.iter().copied().filter(|w| *w < widest).max().unwrap_or(0).max(LEAST_WIDTH);
        let count = widths.iter().filter(|w| **w == widest).count();
        let give = (sum - room).div_ceil(count).min(widest - next).max(1);
        widths.iter_mut().filter(|w| **w == widest).for_each(|w| *w -= give);
        sum -= give * count;
    }
    Some(widths)
}

/// The start of a text where it is too wide.
pub fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if text.width() <= width {
        return text.into();
    }
    let mut out = String::new();
    for c in text.chars() {
        if out.width() + c.to_string().width() + 1 > width {
            break;
        }
        out.push(c);
    }
    out.push('\u{2026}');
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_a_terminal() {
        let widths = fit(vec![50, 3, 40], Some(30)).unwrap();
        assert!(widths.iter().sum::<usize>() <= 26 && widths[1] == 3, "{widths:?}");
        assert_eq!(fit(vec![50, 3], None), Some(vec![50, 3]));
        assert_eq!(fit(vec![50, 50, 50], Some(10)), None);
        assert_eq!(
            (cut("abcdef", 6), cut("abcdef", 5), cut("語語語", 5)),
            ("abcdef".into(), "abcd…".into(), "語語…".into())
        );
    }
}
