//! A place on a stream as people name it: an entry id, or a moment.

use std::str::FromStr;

use ratebox_kit::Clock;
use ratebox_stream::EntryId;

use super::super::moment::Moment;

/// A place on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// An entry.
    Entry(EntryId),
    /// Where the entries of this moment begin.
    Moment(Moment),
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Entry(id));
        }
        let moment = text.parse::<Moment>().map(Self::Moment);
        moment.map_err(|moment| format!("an entry id (1700000000000-0), {moment}"))
    }
}

impl When {
    /// The first entry id of the place.
    pub(super) fn entry_id(self, clock: &Clock) -> EntryId {
        match self {
            Self::Entry(id) => id,
            Self::Moment(moment) => {
                let ms = moment.time(clock.now()).as_millisecond();
                EntryId::new(u64::try_from(ms).unwrap_or(0), 0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ratebox_kit::Timestamp;

    use super::*;

    #[test]
    fn places_are_named_by_id_time_or_span() {
        let read = |text: &str| text.parse::<When>();
        assert_eq!(read("7-1"), Ok(When::Entry(EntryId::new(7, 1))));
        let at = read("2023-11-14T22:13:20Z").unwrap();
        let clock = Clock::manual(Timestamp::from_second(1_700_000_060).unwrap());
        assert_eq!(at.entry_id(&clock), EntryId::new(1_700_000_000_000, 0));
        let ago = read("1m").unwrap().entry_id(&clock);
        assert_eq!(ago, EntryId::new(1_700_000_000_000, 0));
        assert!(["", "7", "15x"].iter().all(|it| read(it).is_err()));
    }
}
