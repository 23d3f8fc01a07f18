//! Ports between a message's handler and what its transaction carries besides the effect: the mark
//! that the message was worked on ([`Marks`]), and messages to others ([`FollowUps`]).
//!
//! They are generic over the transaction and the proof of its commit, so that this crate names no
//! database. One library fills them (an inbox, an outbox), another uses them, and neither knows the
//! other.

use std::collections::HashSet;

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use crate::{MessageId, PortError, id};

/// Remembers which messages had their effect, inside the transaction of the effect.
#[async_trait]
pub trait Marks<Tx>: Send + Sync {
    /// Marks messages for one consumer and returns those that are new; the others had their
    /// effect before. A transaction that marks the same message at the same time is waited for.
    async fn mark(
        &self,
        tx: &mut Tx,
        messages: &[MessageId],
    ) -> Result<HashSet<MessageId>, PortError>;
}

/// Sends messages if, and only if, a transaction commits.
#[async_trait]
pub trait FollowUps<Tx, Proof>: Send + Sync {
    /// Adds messages to the transaction. They leave after its commit, at the latest by whoever
    /// looks after messages that a dead process left behind.
    async fn add(
        &self,
        tx: &mut Tx,
        messages: Vec<FollowUp>,
    ) -> Result<Box<dyn Staged<Proof>>, PortError>;
}

/// Messages in a transaction that has yet to commit.
#[async_trait]
pub trait Staged<Proof>: Send + Sync {
    /// Sends what can be sent now. Never fails: the rest is sent later.
    async fn publish(self: Box<Self>, proof: &Proof);
}

/// A message to others that a transaction carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowUp {
    /// UUIDv7: the message's id wherever it goes.
    pub id: Uuid,
    /// Stream, topic or queue.
    pub topic: String,
    /// Messages of one key keep their order; `None` asks for none.
    pub key: Option<String>,
    /// Names and values beside the body; never personal data.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

// === impl FollowUp ===

impl FollowUp {
    /// A message with a new id, no key and no headers.
    pub fn new(topic: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            id: id::new(),
            topic: topic.into(),
            key: None,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// Keeps the order among messages of `key`.
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
}

// === impl MessageId ===

impl MessageId {
    /// The id as a UUID: itself where it is one, else one made of its SHA-256 (version 8), the
    /// same each time. For tables whose key is a UUID.
    pub fn to_uuid(&self) -> Uuid {
        Uuid::parse_str(&self.0).unwrap_or_else(|_| {
            let hash = id::sha256(self.0.as_bytes());
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&hash[..16]);
            uuid::Builder::from_custom_bytes(bytes).into_uuid()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_keeps_its_uuid_and_a_foreign_one_gets_the_same_each_time() {
        let own = id::new();
        assert_eq!(MessageId(own.to_string()).to_uuid(), own);
        let foreign = |text: &str| MessageId(text.to_owned()).to_uuid();
        assert_eq!(foreign("orders/7-1"), foreign("orders/7-1"));
        assert_ne!(foreign("orders/7-1"), foreign("orders/7-2"));
    }
}
