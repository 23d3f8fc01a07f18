//! What is to be told to others once a transaction has committed.

use bytes::Bytes;
use ratebox_kit::{Message, id};
use uuid::Uuid;

/// Virtual partitions of the outbox. Fixed: the partition of a key must not change while rows of
/// it wait.
pub(crate) const PARTITIONS: i64 = 16;

/// One event. Its id is the message id of every publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// UUIDv7: rows are read in its order.
    pub id: Uuid,
    /// Where it goes: a stream, topic or queue of the broker.
    pub topic: String,
    /// Events of one key reach the broker in the order of their ids; `None` asks for no order
    /// and is published at once.
    pub key: Option<String>,
    /// Names and values beside the body; never personal data.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
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
        }
    }

    /// Keeps the order among events of `key`.
    #[must_use]
    pub fn ordered_by(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
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

    pub(crate) fn message(&self) -> Message {
        Message {
            id: ratebox_kit::MessageId(self.id.to_string()),
            headers: self.headers.clone(),
            body: self.body.clone(),
        }
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo): stable over versions and machines, unlike the standard
/// library's hasher.
fn fnv1a(bytes: &[u8]) -> u64 {
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
}
