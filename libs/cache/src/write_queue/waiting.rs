//! What was answered and waits for its origin, text by text.
//!
//! A queue says where a write stands among those of its key. The write is noted here under that
//! place, then the cache forgets the value, and only then is it answered. So whoever loads the value
//! finds what waits and lays it over what the origin says.
//!
//! Whoever brings a write to the origin takes along all newer texts that wait ([`Known::due`]) and
//! notes which place the origin has of each. A write that went along has nothing to bring when its
//! turn comes, and one that is noted late, after it was brought, does not wait.

mod redis;
mod sqlite;

use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::PortError;

pub use self::redis::ValkeyWaiting;
pub use self::sqlite::SqliteWaiting;

/// What waits is kept for so long at most: a queue that somebody deleted brings nothing any more.
const WAITS_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);

/// What the origin has is kept for so long after the last change, for writes that went along and for
/// notes that come late.
const APPLIED_KEPT: Duration = Duration::from_secs(600);

/// Where a write stands among those of its key; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u128);

/// What is known of one text of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// The newest that waits.
    pub waiting: Option<(Place, String)>,
    /// The newest place that the origin has.
    pub applied: Option<Place>,
}

/// What is known of the texts of one key, by their number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known(pub Vec<Text>);

/// What to bring to the origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// The texts by their number; `None` leaves one as it is.
    pub texts: Vec<Option<String>>,
    /// Which place the origin has of each afterwards.
    pub places: Vec<Option<Place>>,
}

/// Remembers what waits. Everyone who reads or applies must ask the same one.
#[async_trait]
pub trait Waiting: Send + Sync {
    /// Notes the texts of a write that is in the queue. One stays out when a newer one waits or when
    /// the origin has this place of it.
    async fn note(
        &self,
        key: &str,
        place: Place,
        texts: &[Option<String>],
    ) -> Result<(), PortError>;

    /// What is known of a key.
    async fn known(&self, key: &str) -> Result<Known, PortError>;

    /// Notes which places the origin has.
    async fn applied(&self, key: &str, places: &[Option<Place>]) -> Result<(), PortError>;
}

// === impl Place ===

impl Place {
    /// Digits of its text, so that texts sort as places do.
    pub(crate) const DIGITS: usize = 39;

    /// From a time and a counter within it.
    pub const fn new(ms: u64, seq: u64) -> Self {
        Self(((ms as u128) << 64) | seq as u128)
    }

    /// Reads what [`std::fmt::Display`] writes.
    pub(crate) fn read(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:039}", self.0)
    }
}

// === impl Known ===

impl Known {
    /// The texts that wait.
    pub fn waiting(&self) -> Vec<Option<String>> {
        let newest = |text: &Text| text.waiting.as_ref().map(|(_, text)| text.clone());
        self.0.iter().map(newest).collect()
    }

    /// What a write must bring when its turn has come: its texts that the origin does not have, or
    /// newer ones in their place, and all other newer ones. Nothing when it has all of them.
    pub fn due(&self, place: Place, texts: &[Option<String>]) -> Option<Due> {
        let mut due = self.own(place, texts)?;
        due.texts.resize(self.0.len().max(texts.len()), None);
        due.places.resize(due.texts.len(), None);
        for (at, text) in self.0.iter().enumerate() {
            if let Some((newer, text)) = &text.waiting
                && *newer > place
            {
                due.texts[at] = Some(text.clone());
                due.places[at] = Some(*newer);
            }
        }
        Some(due)
    }

    /// Its own texts that the origin does not have.
    pub fn own(&self, place: Place, texts: &[Option<String>]) -> Option<Due> {
        let mut due = Due::default();
        for (at, text) in texts.iter().enumerate() {
            let applied = self.0.get(at).and_then(|known| known.applied);
            let is_due = text.is_some() && applied.is_none_or(|applied| applied < place);
            due.texts.push(text.clone().filter(|_| is_due));
            due.places.push(is_due.then_some(place));
        }
        due.places.iter().any(Option::is_some).then_some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(seq: u64) -> Place {
        Place::new(7, seq)
    }

    fn text(word: &str) -> Option<String> {
        Some(word.to_owned())
    }

    #[test]
    fn places_and_their_texts_sort_alike() {
        let places = [
            Place::new(0, 0),
            Place::new(0, u64::MAX),
            Place::new(1, 0),
            Place::new(u64::MAX, u64::MAX),
        ];
        let texts: Vec<String> = places.iter().map(Place::to_string).collect();
        assert!(places.is_sorted() && texts.is_sorted());
        for (place, text) in places.iter().zip(&texts) {
            assert_eq!(text.len(), Place::DIGITS);
            assert_eq!(Place::read(text), Some(*place));
        }
    }

    #[test]
    fn a_write_takes_newer_texts_along_and_brings_nothing_that_the_origin_has() {
        let waits = |seq, word| Text {
            waiting: Some((place(seq), String::from(word))),
            applied: None,
        };
        let known = Known(vec![waits(1, "a1"), waits(3, "b3")]);
        let first = known.due(place(1), &[text("a1"), None]).unwrap();
        assert_eq!(first.texts, [text("a1"), text("b3")]);
        assert_eq!(first.places, [Some(place(1)), Some(place(3))]);

        let has = |seq| Text {
            waiting: None,
            applied: Some(place(seq)),
        };
        let known = Known(vec![has(1), has(3)]);
        assert_eq!(known.due(place(1), &[text("a1"), None]), None, "once more");
        assert_eq!(known.due(place(3), &[None, text("b3")]), None, "went along");
        let late = known.due(place(2), &[text("a2"), text("b2")]).unwrap();
        assert_eq!(late.texts, [text("a2"), None], "was noted late");
    }

    #[test]
    fn an_older_text_that_waits_is_not_taken_along() {
        let known = Known(vec![Text {
            waiting: Some((place(1), "given up".to_owned())),
            applied: None,
        }]);
        let due = known.due(place(2), &[None, text("b")]).unwrap();
        assert_eq!(due.texts, [None, text("b")]);
    }
}
