//! Dead letters: what is kept, and the view of it that carries no payload.

use ratebox_kit::{Attempt, DeadLetter, DeadLetterClass, Message, Timestamp};

use crate::retry::sender_fields;
use crate::{Append, ConsumerName, Entry, Lane, StreamName, Subscription};

/// Views that operators can page through; the letters themselves are in the store.
const VIEW_MAX_LEN: u64 = 10_000;

/// An entry that must be buried, with the reason. It stays pending until its letter is kept.
#[derive(Debug)]
pub(crate) struct Doomed {
    pub(crate) entry: Entry,
    pub(crate) class: DeadLetterClass,
    pub(crate) error: String,
    pub(crate) code: String,
}

// === impl Doomed ===

impl Doomed {
    /// Delivered too often without any outcome.
    pub(crate) fn poison(entry: Entry) -> Self {
        let deliveries = entry.deliveries.saturating_sub(1);
        Self {
            entry,
            class: DeadLetterClass::Poison,
            error: format!("delivered {deliveries} times without an outcome"),
            code: "delivery.poison".to_owned(),
        }
    }

    /// Its deadline was over before a handler saw it.
    pub(crate) fn expired(entry: Entry) -> Self {
        Self {
            entry,
            class: DeadLetterClass::Expired,
            error: "its deadline was over".to_owned(),
            code: "message.expired".to_owned(),
        }
    }

    /// An operator stopped it before a handler saw it.
    pub(crate) fn cancelled(entry: Entry) -> Self {
        Self {
            entry,
            class: DeadLetterClass::Cancelled,
            error: "cancelled by an operator".to_owned(),
            code: crate::offer::CANCELLED.to_owned(),
        }
    }

    /// No message of ours has that many fields.
    pub(crate) fn too_many_fields(entry: Entry) -> Self {
        let fields = entry.fields.len();
        Self {
            entry,
            class: DeadLetterClass::Malformed,
            error: format!("{fields} fields, more than {}", crate::policy::FIELDS_MAX),
            code: "entry.too_many_fields".to_owned(),
        }
    }

    /// The letter with the bytes as the sender wrote them.
    pub(crate) fn letter(&self, sub: &Subscription, now: Timestamp) -> DeadLetter {
        let first_failed = self.entry.first_failed_ms();
        let first_failed = first_failed.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        // Whoever may append can name any moment, and another consumer's clock may be ahead.
        let first_failed = first_failed.map_or(now, |at| at.min(now));
        let (stream, lane) = self.first_place(sub);
        DeadLetter {
            message_id: self.entry.message_id().into_owned(),
            stream: stream.to_owned(),
            entry_id: self.entry.first_entry().to_string(),
            lane: lane.as_str().to_owned(),
            fields: sender_fields(&self.entry)
                .into_iter()
                .map(|(name, value)| (name.into(), value))
                .collect(),
            class: self.class,
            error: self.error.clone(),
            code: self.code.clone(),
            fail_count: self.fail_count(),
            first_failed_at: first_failed,
            last_failed_at: now,
            consumer: sub.consumer.to_string(),
            group: sub.group.to_string(),
            attempts: self.attempts(&sub.consumer, now),
        }
    }

    /// Where the message came first, so that one that was carried from lane to lane and dies again
    /// is the letter that it was. A stream that is no lane of ours does not do: a replay goes to the
    /// letter's stream, and nobody here would read it.
    fn first_place(&self, sub: &Subscription) -> (&str, Lane) {
        let first = self.entry.first_stream();
        match sub.lanes.lane_of(first) {
            Some(lane) => (first, lane),
            None => (self.entry.stream.as_str(), self.entry.lane),
        }
    }

    /// What the message carries of earlier tries, and the last one.
    fn attempts(&self, consumer: &ConsumerName, now: Timestamp) -> Vec<Attempt> {
        let mut attempts = self.entry.history();
        // No message of ours carries more.
        let more = attempts.len().saturating_sub(crate::policy::HISTORY_MAX);
        attempts.drain(..more);
        attempts.push(Attempt {
            at: now,
            consumer: consumer.to_string(),
            code: self.code.clone(),
            error: self.error.clone(),
        });
        attempts
    }

    /// What operators see on the stream: ids, class, code and counts, nothing of the payload.
    pub(crate) fn view(&self, to: &StreamName, now: Timestamp) -> Append {
        let entry = &self.entry;
        let message = Message::new(entry.message_id().into_owned(), "")
            .with_header("stream", entry.stream.as_str())
            .with_header("lane", entry.lane.as_str())
            .with_header("entry_id", entry.first_entry().to_string())
            .with_header("class", self.class.as_str())
            .with_header("code", self.code.as_str())
            .with_header("fail_count", self.fail_count().to_string())
            .with_header("at", now.to_string());
        Append::new(to.clone(), message).keep_about(VIEW_MAX_LEN)
    }

    fn fail_count(&self) -> u32 {
        match self.class {
            DeadLetterClass::Poison => self.entry.deliveries.saturating_sub(1),
            // Neither is a failure of its own.
            DeadLetterClass::Cancelled | DeadLetterClass::Expired => self.entry.attempt(),
            DeadLetterClass::Transient
            | DeadLetterClass::Permanent
            | DeadLetterClass::Malformed
            | DeadLetterClass::Tampered => self.entry.attempt().saturating_add(1),
        }
    }
}
