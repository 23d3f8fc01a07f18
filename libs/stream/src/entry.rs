//! One entry of a stream, and how a message becomes one.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use bytes::{Bytes, BytesMut};
use ratebox_kit::{Attempt, Decimal, Message};

use crate::{Append, FieldName, Lane, StreamName};

/// Names of the fields that this crate reads and writes. Everything else belongs to the sender.
pub mod field {
    /// The body of a message.
    pub const DATA: &str = "data";
    /// The message's own id, stable over retries, replays and re-publication.
    pub const ID: &str = "rb-id";
    /// Failed attempts so far.
    pub const ATTEMPT: &str = "rb-attempt";
    /// The entry id under which the message came first.
    pub const FIRST_ENTRY: &str = "rb-first-entry";
    /// The stream of that entry, where the message was carried to another one.
    pub const FIRST_STREAM: &str = "rb-first-stream";
    /// The group that a retry belongs to; other groups have seen the message already.
    pub const GROUP: &str = "rb-group";
    /// What orders messages: those of one key go to one partition.
    pub const KEY: &str = "key";
    /// Whose message it is, for fairness and for limits of owners.
    pub const OWNER: &str = "owner";
    /// When the first attempt failed, milliseconds since 1970.
    pub const FIRST_FAILED: &str = "rb-first-failed-ms";
    /// When the message is of no use any more, milliseconds since 1970. Written by the sender.
    pub const EXPIRES_AT: &str = "rb-expires-at";
    /// How often a handler put the message off without failing.
    pub const SNOOZES: &str = "rb-snoozes";
    /// The attempts that failed, one line each: what a dead letter tells of them.
    pub const HISTORY: &str = "rb-history";

    /// Fields that this crate alone writes: no headers of a sender. [`EXPIRES_AT`], [`KEY`] and
    /// [`OWNER`] are a sender's to set, and so is what its codecs note.
    pub const RESERVED: [&str; 9] = [
        DATA,
        ID,
        ATTEMPT,
        FIRST_ENTRY,
        FIRST_STREAM,
        GROUP,
        FIRST_FAILED,
        SNOOZES,
        HISTORY,
    ];
}

/// Bytes of the longest entry id: two numbers of twenty digits and a dash.
const ID_TEXT_MAX: usize = 41;

/// Failed attempts that an entry may say it had. Anyone who may append can write the field, and
/// whoever keeps the number has a column of 32 bits with a sign at most.
const ATTEMPT_MAX: u32 = 1_000_000;

/// The last moment that an entry may name, in milliseconds since 1970: the end of the year 9999,
/// which every store and every calendar can keep.
const TIME_MS_MAX: i64 = 253_402_300_799_999;

/// The place of an entry in its stream: milliseconds and a counter within them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct EntryId {
    /// Milliseconds since 1970 on the server's clock.
    pub ms: u64,
    /// Counts the entries of one millisecond.
    pub seq: u64,
}

// === impl EntryId ===

impl EntryId {
    /// Before every entry.
    pub const MIN: Self = Self { ms: 0, seq: 0 };
    /// After every entry.
    pub const MAX: Self = Self {
        ms: u64::MAX,
        seq: u64::MAX,
    };

    /// An id from its two parts.
    pub const fn new(ms: u64, seq: u64) -> Self {
        Self { ms, seq }
    }

    /// Reads an id as it stands on the wire.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        let dash = text.iter().position(|byte| *byte == b'-')?;
        let (ms, seq) = (text.get(..dash)?, text.get(dash + 1..)?);
        Some(Self {
            ms: decimal(ms)?,
            seq: decimal(seq)?,
        })
    }

    /// The largest id before this one; [`EntryId::MIN`] has none and stays.
    #[must_use]
    pub fn before(self) -> Self {
        match (self.ms, self.seq) {
            (0, 0) => self,
            (ms, 0) => Self {
                ms: ms - 1,
                seq: u64::MAX,
            },
            (ms, seq) => Self { ms, seq: seq - 1 },
        }
    }

    /// The smallest id after this one.
    #[must_use]
    pub fn next(self) -> Self {
        match self.seq.checked_add(1) {
            Some(seq) => Self { ms: self.ms, seq },
            None => Self {
                ms: self.ms.saturating_add(1),
                seq: 0,
            },
        }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ms, seq) = (Decimal::of(self.ms), Decimal::of(self.seq));
        let (ms, seq) = (ms.as_bytes(), seq.as_bytes());
        let mut text = [b'-'; ID_TEXT_MAX];
        let end = ms.len() + 1 + seq.len();
        text[..ms.len()].copy_from_slice(ms);
        text[ms.len() + 1..end].copy_from_slice(seq);
        f.pad(std::str::from_utf8(&text[..end]).expect("digits are text"))
    }
}

impl FromStr for EntryId {
    type Err = NotAnEntryId;

    fn from_str(text: &str) -> Result<Self, NotAnEntryId> {
        Self::read(text.as_bytes()).ok_or(NotAnEntryId)
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let mut number: u64 = 0;
    for digit in digits {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    (!digits.is_empty()).then_some(number)
}

/// The text is no `milliseconds-sequence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an entry id, which looks like 1700000000000-0")]
pub struct NotAnEntryId;

/// An entry as it was delivered. It cannot be cloned: whoever holds it decides its outcome once.
pub struct Entry {
    /// The stream it was read from.
    pub stream: StreamName,
    /// The lane of that stream.
    pub lane: Lane,
    /// Its place in the stream.
    pub id: EntryId,
    /// How often it was delivered, this time included; 0 when it was only looked at.
    pub deliveries: u32,
    /// Names and values in their order, as they are on the stream.
    ///
    /// Values are slices of the buffer that a whole read came in. Whoever keeps one for longer
    /// than the batch should copy it, or call [`Entry::detach`].
    pub fields: Vec<(FieldName, Bytes)>,
}

// === impl Entry ===

impl Entry {
    /// The first value under a name.
    pub fn field(&self, name: &str) -> Option<&Bytes> {
        self.fields
            .iter()
            .find(|(key, _)| key.as_str() == name)
            .map(|(_, value)| value)
    }

    /// The message's own id: the field `rb-id`, else stream and id of its first entry.
    pub fn message_id(&self) -> Cow<'_, str> {
        match self.text(field::ID) {
            Some(id) if !id.is_empty() => Cow::Borrowed(id),
            _ => Cow::Owned(format!("{}/{}", self.first_stream(), self.first_entry())),
        }
    }

    /// Failed attempts so far, a million at most; 0 where the field is absent or no number.
    pub fn attempt(&self) -> u32 {
        self.text(field::ATTEMPT)
            .and_then(|text| text.parse().ok())
            .map_or(0, |attempt: u32| attempt.min(ATTEMPT_MAX))
    }

    /// The entry under which the message came first: the field `rb-first-entry`, where it names one
    /// that is older than this; else itself.
    pub fn first_entry(&self) -> EntryId {
        self.origin().map_or(self.id, |(_, id)| id)
    }

    /// The stream on which the message came first: the field `rb-first-stream` beside such an
    /// `rb-first-entry`, else its own.
    pub fn first_stream(&self) -> &str {
        self.origin()
            .map_or(self.stream.as_str(), |(stream, _)| stream)
    }

    /// The older entry that the fields name. A message that comes again does so under a later id of
    /// its stream, and later than its first entry on another one. What is not older is nobody's
    /// earlier entry: whoever named one that is yet to come would have it taken for a duplicate.
    fn origin(&self) -> Option<(&str, EntryId)> {
        let id: EntryId = self.text(field::FIRST_ENTRY)?.parse().ok()?;
        let own = self.stream.as_str();
        let stream = self.text(field::FIRST_STREAM).unwrap_or(own);
        let is_older = if stream == own {
            id < self.id
        } else {
            // Counters of two streams cannot be compared.
            id.ms < self.id.ms
        };
        is_older.then_some((stream, id))
    }

    /// The group that a retry is meant for; other groups and readers have seen the message.
    pub fn only_for(&self) -> Option<&str> {
        self.text(field::GROUP)
    }

    /// How often a handler put it off ([`crate::Outcome::Snooze`]).
    pub fn snoozes(&self) -> u32 {
        self.text(field::SNOOZES)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    }

    /// Until when it is of use: the field `rb-expires-at`, milliseconds since 1970. `None` where
    /// the field is absent or no number: then it never expires.
    pub fn expires_at_ms(&self) -> Option<i64> {
        self.text(field::EXPIRES_AT)?.parse().ok()
    }

    /// When its first attempt failed, if one did; `None` also where the field is no moment from
    /// 1970 to 9999.
    pub(crate) fn first_failed_ms(&self) -> Option<i64> {
        let ms = self.text(field::FIRST_FAILED)?.parse().ok()?;
        (0..=TIME_MS_MAX).contains(&ms).then_some(ms)
    }

    /// The failed attempts that the message carries with it, oldest first.
    pub fn history(&self) -> Vec<Attempt> {
        self.text(field::HISTORY)
            .map_or_else(Vec::new, Attempt::from_lines)
    }

    /// Adds a failed attempt to what the message carries; the oldest go beyond
    /// [`HISTORY_MAX`](crate::policy::HISTORY_MAX).
    pub(crate) fn remember(&mut self, attempt: &Attempt) {
        let before = self.text(field::HISTORY).unwrap_or_default();
        let lines = before.lines().count();
        let skip = (lines + 1).saturating_sub(crate::policy::HISTORY_MAX);
        let kept = before.lines().skip(skip).flat_map(|line| [line, "\n"]);
        let history = kept.collect::<String>() + &attempt.to_line();
        self.fields.retain(|(name, _)| *name != field::HISTORY);
        self.fields
            .push((field::HISTORY.into(), Bytes::from(history)));
    }

    /// Bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.fields
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum()
    }

    /// Copies the values into a buffer of their own, so that an entry that waits keeps nothing
    /// alive but itself.
    pub fn detach(&mut self) {
        let bytes = self.fields.iter().map(|(_, value)| value.len()).sum();
        let mut own = BytesMut::with_capacity(bytes);
        for (_, value) in &mut self.fields {
            own.extend_from_slice(value);
            *value = own.split().freeze();
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.field(name)?).ok()
    }
}

/// Shows names and lengths, never values: an entry may carry personal data.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths = self
            .fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.len()));
        f.debug_struct("Entry")
            .field("stream", &self.stream)
            .field("id", &format_args!("{}", self.id))
            .field("deliveries", &self.deliveries)
            .field("field_lengths", &lengths.collect::<Vec<_>>())
            .finish()
    }
}

/// The fields of what is appended: those given verbatim, or those of its message.
pub(crate) fn fields_to_append(append: &Append) -> impl Iterator<Item = (&str, &[u8])> {
    let verbatim = append.verbatim.as_deref();
    let message = verbatim.is_none().then(|| fields_of(&append.message));
    let verbatim = verbatim.unwrap_or_default().iter();
    verbatim
        .map(|(name, value)| (name.as_str(), &value[..]))
        .chain(message.into_iter().flatten())
}

/// The fields of a message on a stream: `data`, `rb-id`, then the headers.
pub(crate) fn fields_of(message: &Message) -> impl Iterator<Item = (&str, &[u8])> {
    let own = [
        (field::DATA, &message.body[..]),
        (field::ID, message.id.0.as_bytes()),
    ];
    let headers = message.headers.iter();
    own.into_iter()
        .chain(headers.map(|(name, value)| (name.as_str(), value.as_bytes())))
}

/// The same, owned: for logs that keep the fields themselves.
pub(crate) fn owned_fields(append: &Append) -> Vec<(FieldName, Bytes)> {
    if let Some(verbatim) = &append.verbatim {
        return verbatim
            .iter()
            .map(|(name, value)| (name.as_str().into(), value.clone()))
            .collect();
    }
    owned_fields_of(&append.message)
}

/// The fields of a message, owned.
pub(crate) fn owned_fields_of(message: &Message) -> Vec<(FieldName, Bytes)> {
    let mut fields = Vec::with_capacity(2 + message.headers.len());
    fields.push((field::DATA.into(), message.body.clone()));
    fields.push((
        field::ID.into(),
        Bytes::copy_from_slice(message.id.0.as_bytes()),
    ));
    for (name, value) in &message.headers {
        fields.push((
            name.as_str().into(),
            Bytes::copy_from_slice(value.as_bytes()),
        ));
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fields: &[(&str, &str)]) -> Entry {
        let fields = fields
            .iter()
            .map(|(name, value)| ((*name).into(), Bytes::copy_from_slice(value.as_bytes())))
            .collect();
        let stream = StreamName::new("requests");
        Entry {
            stream,
            lane: Lane::Normal,
            id: EntryId::new(7, 1),
            deliveries: 1,
            fields,
        }
    }

    #[test]
    fn ids_are_read_written_and_ordered() {
        let id: EntryId = "1700000000000-12".parse().unwrap();
        assert_eq!(id.to_string(), "1700000000000-12");
        assert!(id < id.next() && EntryId::new(1, u64::MAX).next() == EntryId::new(2, 0));
        for text in [
            "17",
            "17-",
            "-17",
            "+1-2",
            "1-2-3",
            "99999999999999999999-0",
            "1 -2",
        ] {
            assert_eq!(text.parse::<EntryId>(), Err(NotAnEntryId), "{text}");
        }
        let last = EntryId::MAX.to_string();
        assert_eq!(last.parse(), Ok(EntryId::MAX));
        assert_eq!("17".parse::<EntryId>(), Err(NotAnEntryId));
        assert_eq!(EntryId::new(2, 0).before(), EntryId::new(1, u64::MAX));
        assert_eq!(
            (id.before().next(), EntryId::MIN.before()),
            (id, EntryId::MIN)
        );
    }

    #[test]
    fn a_foreign_entry_gets_its_id_from_its_first_entry() {
        assert_eq!(entry(&[]).message_id(), "requests/7-1");
        assert_eq!(
            entry(&[("rb-first-entry", "3-0")]).message_id(),
            "requests/3-0"
        );
        let carried = [("rb-first-entry", "3-0"), ("rb-first-stream", "others")];
        assert_eq!(entry(&carried).message_id(), "others/3-0");
        let ours = entry(&[("rb-id", "abc"), ("rb-attempt", "2")]);
        assert_eq!((ours.message_id().as_ref(), ours.attempt()), ("abc", 2));
        assert_eq!(ours.first_entry(), ours.id);
    }

    /// Anyone who may append can write these fields.
    #[test]
    fn an_entry_that_is_not_older_is_nobody_s_first_entry() {
        for first in ["7-1", "7-2", "8-0", "281474976710655-0", "no id"] {
            let entry = entry(&[("rb-first-entry", first)]);
            assert_eq!(entry.message_id(), "requests/7-1", "{first}");
            assert_eq!(entry.first_entry(), entry.id, "{first}");
        }
        assert_eq!(
            entry(&[("rb-first-entry", "7-0")]).message_id(),
            "requests/7-0"
        );
        for (first, expected) in [("7-0", "requests/7-1"), ("6-9", "others/6-9")] {
            let carried = [("rb-first-entry", first), ("rb-first-stream", "others")];
            assert_eq!(entry(&carried).message_id(), expected, "{first}");
        }
        let stream_alone = entry(&[("rb-first-stream", "others")]);
        assert_eq!(stream_alone.message_id(), "requests/7-1");
    }

    #[test]
    fn figures_that_no_message_of_ours_has_are_bounded() {
        let attempt = |text: &str| entry(&[("rb-attempt", text)]).attempt();
        assert_eq!((attempt("3"), attempt("-1"), attempt("x")), (3, 0, 0));
        for text in ["2147483647", "4294967295"] {
            assert_eq!(attempt(text), ATTEMPT_MAX, "{text}");
        }
        let failed = |text: &str| entry(&[("rb-first-failed-ms", text)]).first_failed_ms();
        assert_eq!(
            (failed("0"), failed("1700000000000")),
            (Some(0), Some(1_700_000_000_000))
        );
        for text in [
            "-1",
            "-300000000000000",
            "253402300800000",
            "9223372036854775807",
        ] {
            assert_eq!(failed(text), None, "{text}");
        }
    }

    #[test]
    fn a_detached_entry_has_the_same_values_in_a_buffer_of_its_own() {
        let read = Bytes::from("a large read with a value".repeat(1_000));
        let mut entry = entry(&[("rb-id", "abc"), ("empty", "")]);
        entry.fields.push(("data".into(), read.slice(20..25)));
        entry.detach();
        assert_eq!(entry.message_id(), "abc");
        assert_eq!(&entry.field("data").unwrap()[..], b"value");
        assert!(entry.field("empty").unwrap().is_empty());
        assert!(
            read.try_into_mut().is_ok(),
            "nobody shares the read any more"
        );
    }

    #[test]
    fn a_message_remembers_its_last_attempts_only() {
        let mut entry = entry(&[("data", "x")]);
        let attempt = |number: i64| Attempt {
            at: ratebox_kit::Timestamp::from_second(number).unwrap(),
            consumer: "c".to_owned(),
            code: "k".to_owned(),
            error: format!("error {number}"),
        };
        let max = i64::try_from(crate::policy::HISTORY_MAX).unwrap();
        for number in 0..max + 3 {
            entry.remember(&attempt(number));
        }
        let history = entry.history();
        assert_eq!(history.len(), crate::policy::HISTORY_MAX);
        assert_eq!(history.first(), Some(&attempt(3)));
        assert_eq!(history.last(), Some(&attempt(max + 2)));
        assert_eq!(entry.fields.len(), 2);
    }

    #[test]
    fn values_do_not_print_themselves() {
        let shown = format!("{:?}", entry(&[("data", "hunter2")]));
        assert!(shown.contains("data") && !shown.contains("hunter2"));
    }
}
