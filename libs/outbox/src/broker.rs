//! The port to whatever carries the events away.

use async_trait::async_trait;
use ratebox_kit::Message;

/// A message and where it goes.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Stream, topic or queue.
    pub topic: String,
    /// What to publish.
    pub message: Message,
}

/// Why one message was not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The broker is away or full; it is nobody's fault and charged to nobody.
    #[error("the broker cannot be reached or has no room: {0}")]
    Down(String),
    /// The broker refused this very message.
    #[error("the broker refused the message: {0}")]
    Rejected(String),
}

/// Publishes messages. Object-safe; one implementation a broker.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Publishes all messages in one go, in order, and answers for each. `Ok` means that the
    /// broker has confirmed it.
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>>;
}
