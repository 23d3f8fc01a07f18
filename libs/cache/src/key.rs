//! A key's text without an allocation for most keys.

use std::fmt::{Display, Write as _};

/// Longest text that needs no allocation.
const INLINE: usize = 120;

/// A key's text.
pub(crate) enum KeyText {
    Short([u8; INLINE], usize),
    Long(String),
}

// === impl KeyText ===

impl KeyText {
    pub(crate) fn of<K: Display + ?Sized>(key: &K) -> Self {
        let mut text = Self::Short([0; INLINE], 0);
        // Writing to memory does not fail; a key whose own `Display` fails keeps what it wrote.
        let _ = write!(text, "{key}");
        text
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Short(..) => {
                std::str::from_utf8(self.as_bytes()).expect("only whole texts are written")
            }
            Self::Long(text) => text,
        }
    }

    /// The same without a look at whether it is text, which a hit can do without.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(bytes, length) => bytes.get(..*length).unwrap_or_default(),
            Self::Long(text) => text.as_bytes(),
        }
    }
}

impl std::fmt::Write for KeyText {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        match self {
            Self::Long(text) => text.push_str(part),
            Self::Short(bytes, length) => match bytes.get_mut(*length..*length + part.len()) {
                Some(place) => {
                    place.copy_from_slice(part.as_bytes());
                    *length += part.len();
                }
                None => *self = Self::Long([self.as_str(), part].concat()),
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_any_length_keep_their_text() {
        for length in [0, 1, 119, 120, 121, 10_000] {
            let key = "ä".repeat(length / 2) + &"k".repeat(length % 2);
            assert_eq!(KeyText::of(&key).as_str(), key);
            assert_eq!(KeyText::of(&key).as_bytes(), key.as_bytes());
        }
        assert_eq!(KeyText::of(&42_u64).as_str(), "42");
        let split = format_args!("{}{}", "a".repeat(100), "b".repeat(100)).to_string();
        assert_eq!(
            KeyText::of(&format_args!("{}{}", "a".repeat(100), "b".repeat(100))).as_str(),
            split
        );
    }
}
