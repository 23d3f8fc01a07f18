//! A key's text without an allocation for most keys, and without a copy for those that are texts.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::sync::Arc;

/// Longest text that needs no allocation.
const INLINE: usize = 120;

/// A key's text.
pub(crate) enum KeyText<'a> {
    /// The key itself.
    Whole(&'a str),
    Short([u8; INLINE], usize),
    Long(String),
}

/// How a key is seen as the text that it is.
pub(crate) type Whole<K> = for<'a> fn(&'a K) -> &'a str;

/// That for the types of texts; `None` for all others, which are written by their `Display`. That of a
/// text says the same, by way of a formatter: a fifth of what a hit in memory would take.
pub(crate) fn whole<K: ?Sized + 'static>() -> Option<Whole<K>> {
    // One of these is of the type that is asked for if K is the type of its texts.
    let texts: [Box<dyn Any>; 6] = [
        Box::new((|text| text) as Whole<str>),
        Box::new((|text| text) as Whole<&'static str>),
        Box::new((|text| text) as Whole<String>),
        Box::new((|text| text) as Whole<Box<str>>),
        Box::new((|text| text) as Whole<Arc<str>>),
        Box::new((|text| text) as Whole<Cow<'static, str>>),
    ];
    let mut texts = texts.iter();
    texts.find_map(|text| text.downcast_ref::<Whole<K>>().copied())
}

// === impl KeyText ===

impl<'a> KeyText<'a> {
    pub(crate) fn of<K: Display + ?Sized>(key: &'a K, whole: Option<Whole<K>>) -> Self {
        match whole {
            Some(whole) => Self::Whole(whole(key)),
            None => Self::written(key),
        }
    }

    fn written<K: Display + ?Sized>(key: &K) -> Self {
        let mut text = Self::Short([0; INLINE], 0);
        // Writing to memory does not fail; a key whose own `Display` fails keeps what it wrote.
        let _ = write!(text, "{key}");
        text
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Whole(text) => text,
            Self::Short(..) => {
                std::str::from_utf8(self.as_bytes()).expect("only whole texts are written")
            }
            Self::Long(text) => text,
        }
    }

    /// The same without a look at whether it is text, which a hit can do without.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Whole(text) => text.as_bytes(),
            Self::Short(bytes, length) => bytes.get(..*length).unwrap_or_default(),
            Self::Long(text) => text.as_bytes(),
        }
    }
}

impl std::fmt::Write for KeyText<'_> {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        match self {
            Self::Whole(text) => *self = Self::Long([*text, part].concat()),
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
            for whole in [None, whole()] {
                assert_eq!(KeyText::of(&key, whole).as_str(), key);
                assert_eq!(KeyText::of(&key, whole).as_bytes(), key.as_bytes());
            }
        }
        assert_eq!(KeyText::of(&42_u64, whole()).as_str(), "42");
        let (first, second) = ("a".repeat(100), "b".repeat(100));
        let split = format_args!("{first}{second}").to_string();
        let text = KeyText::of(&format_args!("{first}{second}"), None)
            .as_str()
            .to_owned();
        assert_eq!(text, split);
    }

    /// Shows itself in another way than the text that it holds.
    #[derive(Clone)]
    struct Loud(String);

    impl Display for Loud {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(&self.0.to_uppercase())
        }
    }

    #[test]
    fn a_text_is_its_own_and_all_else_is_what_it_displays() {
        fn check<K: Display + ?Sized + 'static>(key: &K, is_whole: bool) {
            let text = KeyText::of(key, whole());
            assert_eq!(text.as_str(), key.to_string());
            assert_eq!(matches!(text, KeyText::Whole(_)), is_whole, "{key}");
        }
        check("k", true);
        check::<&'static str>(&"k", true);
        check(&"k".to_owned(), true);
        check::<Box<str>>(&"k".into(), true);
        check::<Arc<str>>(&"k".into(), true);
        check::<Cow<'static, str>>(&"k".into(), true);
        check(&7_u64, false);
        check(&-7_i32, false);
        check(&Loud("k".to_owned()), false);
        check(&Arc::new(Loud("k".to_owned())), false);
    }
}
