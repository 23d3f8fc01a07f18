//! One message on its way to a handler: what it carries and how it came.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use ratebox_kit::MessageId;

use super::TraceContext;
use crate::{Entry, EntryId, FieldName, Lane, StreamName, field};

/// The header that names a message's type.
pub const TYPE_HEADER: &str = "type";

/// Fields that are no headers begin with this, or are the body.
const OURS: &str = "rb-";

/// One delivery of a message. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// How it came.
    pub meta: Meta,
    /// Its body, as far as it was opened. It may be a slice of the buffer that a whole read came
    /// in: copy what is kept for longer than the message.
    pub body: Bytes,
    /// The type that its handler was declared for; `None` for a handler of everything else.
    pub route: Option<&'static str>,
}

/// What is known of a message besides its body. An extractor; cheap to clone.
#[derive(Clone)]
pub struct Meta {
    entry: Arc<Entry>,
    id: Arc<str>,
}

// === impl Delivery ===

impl Delivery {
    pub(crate) fn new(entry: Entry) -> Self {
        let body = entry.field(field::DATA).cloned().unwrap_or_default();
        let id = Arc::from(entry.message_id().as_ref());
        let entry = Arc::new(entry);
        Self {
            meta: Meta { entry, id },
            body,
            route: None,
        }
    }
}

// === impl Meta ===

impl Meta {
    /// The message's own id, stable over retries and replays.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The same, as ports take it.
    pub fn message_id(&self) -> MessageId {
        MessageId(self.id.to_string())
    }

    /// Failed attempts so far.
    pub fn attempt(&self) -> u32 {
        self.entry.attempt()
    }

    /// How often a handler put it off ([`super::Failure::snooze`]).
    pub fn snoozes(&self) -> u32 {
        self.entry.snoozes()
    }

    /// How often this entry was delivered, this time included. More than one means that a consumer
    /// died or lost it.
    pub fn deliveries(&self) -> u32 {
        self.entry.deliveries
    }

    /// Its priority class.
    pub fn lane(&self) -> Lane {
        self.entry.lane
    }

    /// The stream that it came from.
    pub fn stream(&self) -> &StreamName {
        &self.entry.stream
    }

    /// Its place there.
    pub fn entry_id(&self) -> EntryId {
        self.entry.id
    }

    /// The type that it was sent under, by the header [`TYPE_HEADER`].
    pub fn message_type(&self) -> Option<&str> {
        self.header(TYPE_HEADER)
    }

    /// The first header of this name; `None` where it is absent or no UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.entry.field(name)?).ok()
    }

    /// All headers that are UTF-8: every field but the body and those of this library.
    pub fn headers(&self) -> Headers<'_> {
        Headers {
            fields: self.entry.fields.iter(),
        }
    }

    /// The W3C trace that it belongs to, if its sender said so.
    pub fn trace(&self) -> Option<TraceContext> {
        TraceContext::parse(self.header(TraceContext::HEADER)?)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.entry.bytes()
    }

    /// Gives the entry back for its outcome. Where a handler let a clone escape, a copy is made:
    /// the escaped one can decide nothing.
    pub(crate) fn into_entry(self) -> Entry {
        Arc::try_unwrap(self.entry).unwrap_or_else(|entry| Entry {
            stream: entry.stream.clone(),
            lane: entry.lane,
            id: entry.id,
            deliveries: entry.deliveries,
            fields: entry.fields.clone(),
        })
    }
}

/// Shows how it came, never a value of its payload, nor the id: its sender may have put somebody's
/// number or address there.
impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meta")
            .field("attempt", &self.attempt())
            .field("entry", &self.entry)
            .finish()
    }
}

/// The headers of a message.
pub struct Headers<'a> {
    fields: std::slice::Iter<'a, (FieldName, Bytes)>,
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        self.fields.by_ref().find_map(|(name, value)| {
            let is_header = *name != field::DATA && !name.starts_with(OURS);
            let value = std::str::from_utf8(value).ok()?;
            is_header.then_some((name.as_str(), value))
        })
    }
}
