//! Foreign words on their way into the database.

use std::borrow::Cow;

/// Longest reason that is kept, in characters.
const REASON_CHARS_MAX: usize = 2000;

/// A text that PostgreSQL takes: it knows no U+0000.
pub(crate) fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Why something failed, as it is kept: no longer than anybody reads.
pub(crate) fn reason(why: &str) -> String {
    storable(why).chars().take(REASON_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_bounded_and_holds_no_nul() {
        assert_eq!(reason("a\0b"), "a\u{fffd}b");
        assert_eq!(reason(&"ü".repeat(5000)).chars().count(), REASON_CHARS_MAX);
        assert_eq!(storable("plain"), "plain");
    }
}
