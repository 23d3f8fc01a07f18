//! Foreign text for people: nothing of it begins a line, moves a cursor or changes a colour.

use std::borrow::Cow;

/// The text with its control characters written out, such as `\n` and `\u{1b}`.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c.is_control() {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        assert_eq!(visible("Nguyễn Văn A, 12 %"), "Nguyễn Văn A, 12 %");
        assert_eq!(
            visible("a\u{1b}[2J\nb\tc\r\u{7f}\u{9b}d"),
            "a\\u{1b}[2J\\nb\\tc\\r\\u{7f}\\u{9b}d"
        );
    }
}
