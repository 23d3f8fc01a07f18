//! A message's answer, and the port that remembers it for a second delivery.

use async_trait::async_trait;
use bytes::Bytes;
use ratebox_db::Tx;
use ratebox_kit::{Message, MessageId, PortError};

use crate::{Append, StreamName};

/// An answer to a message. Its own id is made of the message's, so that a repeated one can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The stream that it goes to.
    pub stream: String,
    /// Names and values beside the body; never personal data.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

// === impl Reply ===

impl Reply {
    /// An answer without headers.
    pub fn new(stream: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            stream: stream.into(),
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// As it goes onto its stream, `index`th answer to `message`.
    pub(crate) fn append(&self, message: &str, index: usize) -> Append {
        let stream = StreamName::new(&self.stream);
        let id = MessageId(format!("{message}/reply-{index}"));
        let headers = self.headers.clone();
        let message = Message {
            id,
            headers,
            body: self.body.clone(),
        }
        .with_header("reply-to-id", message);
        Append::new(stream, message)
    }
}

/// Remembers what was answered, so that a second delivery is answered the same without working
/// again. Filled by [`crate::layers::SqlResults`] or by your own table.
#[async_trait]
pub trait Results: Send + Sync {
    /// Keeps the answers to a message in the transaction of its effects.
    async fn keep(
        &self,
        tx: &mut Tx,
        message: &MessageId,
        replies: &[Reply],
    ) -> Result<(), PortError>;

    /// What was answered; empty when nothing was, or when it is forgotten.
    async fn find(&self, tx: &mut Tx, message: &MessageId) -> Result<Vec<Reply>, PortError>;
}
