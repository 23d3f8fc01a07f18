//! What is to be told to others once a transaction has committed.

use std::time::Duration;

use bytes::Bytes;
use ratebox_kit::{Message, id};
use uuid::Uuid;

/// Virtual partitions of the outbox. Fixed: the partition of a key must not change while rows of
/// it wait.
pub(crate) const PARTITIONS: i64 = 16;

/// The header of W3C Trace Context.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// One event. Its id is the message id of every publication.
///
/// Events of one key leave in the order of their ids. Make the event, or draw its id with
/// [`Event::renewed`], while the transaction holds what orders the key's senders: the row lock of
/// the aggregate, or [`Outbox::lock`](crate::Outbox::lock).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// UUIDv7: rows are read in its order.
    pub id: Uuid,
    /// Where it goes: a stream, topic or queue of the broker.
    pub topic: String,
    /// Events of one key reach the broker in the order of their ids; `None` asks for no order.
    pub key: Option<String>,
    /// Names and values beside the body; never personal data.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// What it is about, for those who say so.
    pub about: Option<Box<About>>,
}

/// What an event is about, and how its broker should route it. An event with any of these has a
/// row of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Kind of the aggregate, such as `order`; published as the header `aggregate-type`.
    pub aggregate_type: Option<String>,
    /// What happened, such as `order.created`; published as the header `event-type`.
    pub event_type: Option<String>,
    /// Routing key, for brokers that have one (RabbitMQ); else the topic.
    pub routing_key: Option<String>,
    /// Key that chooses the broker's partition (Kafka); else the aggregate's id, else the key.
    pub partition_key: Option<String>,
    /// It is published no sooner than this after its commit. It holds up no other event of its
    /// key while it waits.
    pub delay: Option<Duration>,
}

impl Event {
    /// An event with a new id, no key and no headers.
    pub fn new(topic: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self::with_id(id::new(), topic, body)
    }

    /// An event whose message id the caller chose; it must be a UUIDv7 made just now.
    pub fn with_id(id: Uuid, topic: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            id,
            topic: topic.into(),
            key: None,
            headers: Vec::new(),
            body: body.into(),
            about: None,
        }
    }

    /// Draws a new id: for an event that was made before its key was locked.
    #[must_use]
    pub fn renewed(mut self) -> Self {
        self.id = id::new();
        self
    }

    /// Keeps the order among events of `key`.
    #[must_use]
    pub fn ordered_by(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Names the aggregate and keeps the order among its events: the key is `kind/id`.
    #[must_use]
    pub fn aggregate(self, kind: &str, id: impl std::fmt::Display) -> Self {
        let key = format!("{kind}/{id}");
        self.with(|about| about.aggregate_type = Some(kind.to_owned()))
            .ordered_by(key)
    }

    /// Says what happened.
    #[must_use]
    pub fn of_type(self, event_type: impl Into<String>) -> Self {
        self.with(|about| about.event_type = Some(event_type.into()))
    }

    /// Routes it by this key, where the broker has routing keys.
    #[must_use]
    pub fn routed_by(self, key: impl Into<String>) -> Self {
        self.with(|about| about.routing_key = Some(key.into()))
    }

    /// Chooses the broker's partition by this key.
    #[must_use]
    pub fn partitioned_by(self, key: impl Into<String>) -> Self {
        self.with(|about| about.partition_key = Some(key.into()))
    }

    /// Publishes it no sooner than this after its commit; a hundred years at most.
    #[must_use]
    pub fn deliver_after(self, delay: Duration) -> Self {
        self.with(|about| about.delay = Some(delay))
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Carries the sender's trace on (W3C Trace Context, header `traceparent`).
    #[must_use]
    pub fn traced(self, traceparent: impl Into<String>) -> Self {
        self.with_header(TRACEPARENT, traceparent)
    }

    pub(crate) fn is_traced(&self) -> bool {
        self.headers.iter().any(|(name, _)| name == TRACEPARENT)
    }

    fn with(mut self, change: impl FnOnce(&mut About)) -> Self {
        change(self.about.get_or_insert_default());
        self
    }

    /// Its virtual partition: a hash of the key, or of the id where no order is asked for.
    pub(crate) fn partition(&self) -> i64 {
        let hash = match &self.key {
            Some(key) => fnv1a(key.as_bytes()),
            None => fnv1a(self.id.as_bytes()),
        };
        i64::try_from(hash % PARTITIONS.unsigned_abs()).unwrap_or(0)
    }

    /// The aggregate's id: the key without its kind.
    pub(crate) fn aggregate_id(&self) -> Option<&str> {
        let kind = self.about.as_ref()?.aggregate_type.as_deref()?;
        let rest = self.key.as_deref()?.strip_prefix(kind)?;
        rest.strip_prefix('/')
    }

    /// What happened; empty when nobody said.
    pub(crate) fn type_name(&self) -> &str {
        let about = self.about.as_deref();
        about
            .and_then(|it| it.event_type.as_deref())
            .unwrap_or_default()
    }

    pub(crate) fn message(&self) -> Message {
        let mut headers = self.headers.clone();
        if let Some(about) = &self.about {
            let told = [
                ("event-type", about.event_type.as_deref()),
                ("aggregate-type", about.aggregate_type.as_deref()),
                ("aggregate-id", self.aggregate_id()),
            ];
            for (name, value) in told {
                headers.extend(value.map(|it| (name.to_owned(), it.to_owned())));
            }
        }
        Message {
            id: ratebox_kit::MessageId(self.id.to_string()),
            headers,
            body: self.body.clone(),
        }
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo): stable over versions and machines, unlike the standard
/// library's hasher.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_of_a_key_never_changes() {
        let partition = |key: &str| Event::new("t", "").ordered_by(key).partition();
        assert_eq!(
            [partition("a"), partition("order-42"), partition("")],
            [12, 4, 5]
        );
    }

    #[test]
    fn a_message_tells_what_its_event_is_about() {
        let event = Event::new("t", "b")
            .aggregate("order", 42)
            .of_type("order.created")
            .traced("00-a-b-01");
        assert_eq!(event.key.as_deref(), Some("order/42"));
        let message = event.message();
        let header = |name| message.header(name).unwrap_or_default().to_owned();
        let told = [
            "event-type",
            "aggregate-type",
            "aggregate-id",
            "traceparent",
        ]
        .map(header);
        assert_eq!(told, ["order.created", "order", "42", "00-a-b-01"]);
        assert!(Event::new("t", "b").message().headers.is_empty());
    }
}
