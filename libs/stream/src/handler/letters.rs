//! Dead letters on a stream of the same log, for programs without a store of their own.

use std::sync::Arc;

use async_trait::async_trait;
use ratebox_kit::{DeadLetter, DeadLetters, Message, PortError, id};

use crate::{Append, Lanes, Log, StreamName, field};

/// Keeps dead letters as entries of a stream: `data` is the original body, each original field
/// keeps its name, and `dead-…` fields say why. A field that is no UTF-8 is kept in hexadecimal
/// under `dead-hex-<name>`.
///
/// A letter that a crash repeats is there twice with the same id (stream and first entry).
pub struct LetterStream {
    log: Arc<dyn Log>,
    stream: StreamName,
}

// === impl LetterStream ===

impl LetterStream {
    /// Letters go to `stream`, which must not be one that is worked on.
    pub fn new(log: Arc<dyn Log>, stream: StreamName) -> Self {
        Self { log, stream }
    }

    /// The stream that belongs to these lanes: `{orders}:dead` for `orders`, in the same slot of a
    /// cluster.
    pub fn of(log: Arc<dyn Log>, lanes: &Lanes) -> Self {
        let delayed = lanes.delayed().as_str();
        let stem = delayed.strip_suffix(":delayed").unwrap_or(delayed);
        Self::new(log, StreamName::new(format!("{stem}:dead")))
    }

    /// Where the letters are.
    pub fn stream(&self) -> &StreamName {
        &self.stream
    }
}

#[async_trait]
impl DeadLetters for LetterStream {
    async fn keep(&self, letters: &[DeadLetter]) -> Result<(), PortError> {
        let append = |letter| Append::new(self.stream.clone(), message(letter));
        let appends: Vec<Append> = letters.iter().map(append).collect();
        for kept in self.log.append(&appends).await {
            kept.map_err(|error| PortError::new("could not append a dead letter", error))?;
        }
        Ok(())
    }
}

fn message(letter: &DeadLetter) -> Message {
    let body = letter.fields.iter().find(|(name, _)| name == field::DATA);
    let body = body.map(|(_, body)| body.clone()).unwrap_or_default();
    let letter_id = format!("{}/{}", letter.stream, letter.entry_id);
    let mut message = Message::new(letter_id, body)
        .with_header("dead-message-id", letter.message_id.as_str())
        .with_header("dead-class", letter.class.as_str())
        .with_header("dead-code", letter.code.as_str())
        .with_header("dead-error", letter.error.as_str())
        .with_header("dead-stream", letter.stream.as_str())
        .with_header("dead-entry", letter.entry_id.as_str())
        .with_header("dead-lane", letter.lane.as_str())
        .with_header("dead-fail-count", letter.fail_count.to_string())
        .with_header("dead-first-failed", letter.first_failed_at.to_string())
        .with_header("dead-last-failed", letter.last_failed_at.to_string())
        .with_header("dead-consumer", letter.consumer.as_str());
    for (name, value) in &letter.fields {
        if name == field::DATA || name == field::ID {
            continue;
        }
        match std::str::from_utf8(value) {
            Ok(text) => message = message.with_header(name.as_str(), text),
            Err(_) => message = message.with_header(format!("dead-hex-{name}"), id::hex(value)),
        }
    }
    message
}
