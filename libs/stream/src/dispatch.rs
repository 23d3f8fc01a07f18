//! A message on its way with wishes: when, once, until when; and what the log answered.

use std::fmt;
use std::time::Duration;

use ratebox_kit::{Message, MessageId, Timestamp};

use crate::{EntryId, Lane, field};

/// When a message goes onto its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum When {
    /// At once.
    #[default]
    Now,
    /// So long from now on the log's clock.
    After(Duration),
    /// At this time on the log's clock; at once when it is over.
    At(Timestamp),
}

/// Of all messages with the same key within the window, the first is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dedupe {
    /// What makes two messages the same; per stream, over all lanes. At most [`DEDUPE_KEY_MAX`]
    /// bytes.
    pub key: String,
    /// How long the first one is remembered on the log's clock, from when it was taken. Whole
    /// milliseconds, at least one.
    pub window: Duration,
}

/// Bytes of a [`Dedupe::key`].
pub const DEDUPE_KEY_MAX: usize = 1_024;

/// A message with what is wished for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// The message. Its id names it for [`crate::Dispatcher::unschedule`].
    pub message: Message,
    /// Its lane; the plain stream where the lane does not exist.
    pub lane: Lane,
    /// When it goes onto its stream.
    pub when: When,
    /// Whether it is taken only once.
    pub dedupe: Option<Dedupe>,
}

// === impl Dispatch ===

impl Dispatch {
    /// At once, on the normal lane, whatever came before.
    pub fn new(message: Message) -> Self {
        Self {
            message,
            lane: Lane::Normal,
            when: When::Now,
            dedupe: None,
        }
    }

    /// On this lane.
    #[must_use]
    pub fn on(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self
    }

    /// So long from now.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.when = When::After(wait);
        self
    }

    /// At this time.
    #[must_use]
    pub fn at(mut self, due: Timestamp) -> Self {
        self.when = When::At(due);
        self
    }

    /// Only if none with this key was taken within the window.
    #[must_use]
    pub fn once(mut self, key: impl Into<String>, window: Duration) -> Self {
        self.dedupe = Some(Dedupe {
            key: key.into(),
            window,
        });
        self
    }

    /// Is of no use after this time: a consumer that meets it later does not offer it to its
    /// handler ([`crate::policy::Expired`]).
    #[must_use]
    pub fn expires_at(mut self, deadline: Timestamp) -> Self {
        let ms = deadline.as_millisecond().to_string();
        self.message = self.message.with_header(field::EXPIRES_AT, ms);
        self
    }

    /// Whether a plain append does it.
    pub(crate) fn is_plain(&self) -> bool {
        self.when == When::Now && self.dedupe.is_none()
    }

    /// Bytes that the stream keeps of it, about.
    pub(crate) fn bytes(&self) -> u64 {
        let fields = crate::entry::fields_of(&self.message);
        fields
            .map(|(name, value)| (name.len() + value.len()) as u64)
            .sum()
    }
}

impl From<Message> for Dispatch {
    fn from(message: Message) -> Self {
        Self::new(message)
    }
}

/// Where a message was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is an entry of its lane.
    Stream(EntryId),
    /// It waits beside the stream until then, in whole milliseconds of the log's clock.
    Schedule(Timestamp),
}

/// Which message was taken, and where it was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its id.
    pub message_id: MessageId,
    /// Where it was put when it was taken.
    pub place: Place,
}

/// What became of a message that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Taken.
    Accepted(Receipt),
    /// Not taken: this one had the same key and came first. A sender that repeats a call whose
    /// answer was lost finds its own message here.
    Duplicate(Receipt),
}

// === impl Sent ===

impl Sent {
    /// Of the message that was taken: this one or the first one.
    pub fn receipt(&self) -> &Receipt {
        match self {
            Self::Accepted(receipt) | Self::Duplicate(receipt) => receipt,
        }
    }

    /// Whether another one came first.
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Self::Duplicate(_))
    }
}

// === impl Receipt ===

/// `e/1700000000000-0/id` or `s/1700000000000/id`: how logs remember the first of a key. The id
/// comes last, for it may contain anything.
impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Stream(id) => write!(f, "e/{id}/{}", self.message_id),
            Place::Schedule(due) => {
                write!(f, "s/{}/{}", due.as_millisecond(), self.message_id)
            }
        }
    }
}

impl Receipt {
    /// Reads what it prints.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '/');
        let (kind, place, id) = (parts.next()?, parts.next()?, parts.next()?);
        let place = match kind {
            "e" => Place::Stream(place.parse().ok()?),
            "s" => Place::Schedule(Timestamp::from_millisecond(place.parse().ok()?).ok()?),
            _ => return None,
        };
        Some(Self {
            message_id: MessageId(id.to_owned()),
            place,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_are_written_and_read_whatever_the_id_contains() {
        let places = [
            Place::Stream(EntryId::new(17, 3)),
            Place::Schedule(Timestamp::from_millisecond(1_700_000_000_123).unwrap()),
        ];
        for place in places {
            let receipt = Receipt {
                message_id: MessageId("a/b//".to_owned()),
                place,
            };
            assert_eq!(Receipt::parse(&receipt.to_string()), Some(receipt));
        }
        assert!(Receipt::parse("x/1/2").is_none() && Receipt::parse("e/1").is_none());
    }

    #[test]
    fn only_a_message_without_wishes_is_plain() {
        let plain = || Dispatch::new(Message::new("m", "x"));
        assert!(plain().on(Lane::High).is_plain());
        assert!(!plain().after(Duration::ZERO).is_plain());
        assert!(!plain().once("k", Duration::from_secs(1)).is_plain());
        assert_eq!(plain().bytes(), 4 + 1 + 5 + 1);
    }
}
