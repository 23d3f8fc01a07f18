//! A message as it came from a broker.

use ratebox_kit::{Message, id};
use uuid::Uuid;

/// A delivery: a message, where it came from, and how often it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Stream, topic or queue that it came from.
    pub topic: String,
    /// What it tells, for metrics and operators; empty when nobody said.
    pub event_type: String,
    /// Id, headers and bytes.
    pub message: Message,
    /// Which delivery the broker says it is; 1 for the first, and for brokers that do not count.
    /// From the second on every attempt is counted before it begins, so that a message that kills
    /// its process is given up in the end.
    pub deliveries: u32,
    key: Option<String>,
}

impl Received {
    /// A first delivery. The type is taken from the header `event-type`, if it is there.
    pub fn new(topic: impl Into<String>, message: Message) -> Self {
        Self {
            topic: topic.into(),
            event_type: message.header("event-type").unwrap_or_default().to_owned(),
            message,
            deliveries: 1,
            key: None,
        }
    }

    /// Says what it tells.
    #[must_use]
    pub fn of_type(mut self, event_type: impl Into<String>) -> Self {
        self.event_type = event_type.into();
        self
    }

    /// Says which delivery it is.
    #[must_use]
    pub fn delivered(mut self, deliveries: u32) -> Self {
        self.deliveries = deliveries;
        self
    }

    /// Knows it by a key of its content (an order's number) instead of the message id: two
    /// messages of one key are one.
    #[must_use]
    pub fn known_by(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// What the inbox knows it by: the message id when that is a UUID, else a UUID made from it
    /// (version 8, from SHA-256), the same on every machine.
    pub fn event_id(&self) -> Uuid {
        match &self.key {
            Some(key) => derived(b"key", key),
            None => {
                let id = &self.message.id.0;
                Uuid::try_parse(id).unwrap_or_else(|_| derived(b"id", id))
            }
        }
    }
}

fn derived(kind: &[u8], text: &str) -> Uuid {
    let hash = id::sha256(&[kind, &[0], text.as_bytes()].concat());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_id_and_a_key_become_the_same_uuid_everywhere() {
        let of = |id: &str| Received::new("t", Message::new(id, "")).event_id();
        assert_eq!(
            of("17-0").to_string(),
            "ce44a1a6-5a10-85d1-92d8-954fe1f7d8d9"
        );
        assert_ne!(of("17-0"), of("17-1"));
        let keyed = Received::new("t", Message::new("17-0", "")).known_by("17-0");
        assert_ne!(keyed.event_id(), of("17-0"));
        let uuid = "0190a000-0000-7000-8000-000000000001";
        assert_eq!(of(uuid).to_string(), uuid);
    }
}
