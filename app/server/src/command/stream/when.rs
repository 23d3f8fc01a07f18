//! A place on a stream as people name it: an entry id, a time, or how long ago.

use std::str::FromStr;
use std::time::Duration;

use ratebox_kit::{Clock, Timestamp};
use ratebox_stream::EntryId;

/// A place on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// An entry.
    Entry(EntryId),
    /// A moment.
    At(Timestamp),
    /// So long ago.
    Ago(Duration),
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Entry(id));
        }
        if let Ok(time) = text.parse() {
            return Ok(Self::At(time));
        }
        span(text).map(Self::Ago).map_err(|_| {
            "an entry id (1700000000000-0), a time (2026-01-31T12:00:00Z) or a span (15m)"
                .to_owned()
        })
    }
}

impl When {
    /// The first entry id of the place.
    pub(super) fn entry_id(self, clock: &Clock) -> EntryId {
        let at = |ms: i64| EntryId::new(u64::try_from(ms).unwrap_or(0), 0);
        match self {
            Self::Entry(id) => id,
            Self::At(time) => at(time.as_millisecond()),
            Self::Ago(span) => {
                let ms = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
                at(clock.now_ms().saturating_sub(ms))
            }
        }
    }
}

/// A whole number with its unit: s, m, h or d.
///
/// # Errors
/// When it is none.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "a number with s, m, h or d, such as 15m".to_owned();
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number = text.get(..text.len() - 1).unwrap_or_default();
    let number: u32 = number.parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named_by_id_time_or_span() {
        let read = |text: &str| text.parse::<When>();
        assert_eq!(read("7-1"), Ok(When::Entry(EntryId::new(7, 1))));
        assert_eq!(read("15m"), Ok(When::Ago(Duration::from_secs(900))));
        let at = read("2023-11-14T22:13:20Z").unwrap();
        let clock = Clock::manual(Timestamp::from_second(1_700_000_060).unwrap());
        assert_eq!(at.entry_id(&clock), EntryId::new(1_700_000_000_000, 0));
        let ago = read("1m").unwrap().entry_id(&clock);
        assert_eq!(ago, EntryId::new(1_700_000_000_000, 0));
        assert!(
            ["", "m", "15", "15x", "-1m", "é"]
                .iter()
                .all(|it| read(it).is_err())
        );
    }
}
