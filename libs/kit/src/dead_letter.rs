//! What a message becomes when it can never succeed, and the port that keeps it.
//!
//! The stream library decides that a message is dead; whoever owns a durable store fills the
//! port. The letter is kept before the entry is acknowledged, so a crash between the two repeats
//! the letter and never loses it; keepers therefore take the same letter twice as one.

use async_trait::async_trait;
use bytes::Bytes;

use crate::Timestamp;

/// Why a message died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeadLetterClass {
    /// Failed with an error that might have passed, more often than retries are allowed.
    Transient,
    /// Can never succeed; the handler said so.
    Permanent,
    /// The bytes are no message that this version understands.
    Malformed,
    /// Its seal does not fit: somebody changed it, or sent it without the key.
    Tampered,
    /// Its deadline had passed.
    Expired,
    /// Delivered several times without any outcome: it takes its consumers down.
    Poison,
    /// An operator stopped it.
    Cancelled,
}

impl DeadLetterClass {
    /// Every class.
    pub const ALL: [Self; 7] = [
        Self::Transient,
        Self::Permanent,
        Self::Malformed,
        Self::Tampered,
        Self::Expired,
        Self::Poison,
        Self::Cancelled,
    ];

    /// The stable word for stores, metrics and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::Malformed => "malformed",
            Self::Tampered => "tampered",
            Self::Expired => "expired",
            Self::Poison => "poison",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the stable word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == word)
    }
}

/// One try that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When it failed.
    pub at: Timestamp,
    /// Who tried.
    pub consumer: String,
    /// A stable code of the error.
    pub code: String,
    /// What the error said; never a payload value.
    pub error: String,
}

/// Longest error text of an attempt, in characters; a history travels with its message.
const ERROR_CHARS_MAX: usize = 200;

// === impl Attempt ===

impl Attempt {
    /// The attempt as one line: milliseconds, consumer, code and error, with tabs between them.
    pub fn to_line(&self) -> String {
        let plain = |text: &str| {
            let chars = text.chars().take(ERROR_CHARS_MAX);
            let chars = chars.map(|c| if c.is_control() { ' ' } else { c });
            chars.collect::<String>()
        };
        format!(
            "{}\t{}\t{}\t{}\n",
            self.at.as_millisecond(),
            plain(&self.consumer),
            plain(&self.code),
            plain(&self.error)
        )
    }

    /// Reads lines, oldest first. What is no line is passed over: the text may have been cut at
    /// its beginning.
    pub fn from_lines(text: &str) -> Vec<Self> {
        text.lines().filter_map(Self::from_line).collect()
    }

    fn from_line(line: &str) -> Option<Self> {
        let mut parts = line.splitn(4, '\t');
        let ms = parts.next()?.parse().ok()?;
        Some(Self {
            at: Timestamp::from_millisecond(ms).ok()?,
            consumer: parts.next()?.to_owned(),
            code: parts.next()?.to_owned(),
            error: parts.next()?.to_owned(),
        })
    }
}

/// A message that used up its deliveries, with its original bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message's own id (`rb-id`), the inbox key that a replay keeps.
    pub message_id: String,
    /// The stream it was read from.
    pub stream: String,
    /// Its first entry on that stream; with the stream it identifies the letter.
    pub entry_id: String,
    /// The lane's word: `high`, `normal` or `low`.
    pub lane: String,
    /// All fields as they were on the stream.
    pub fields: Vec<(String, Bytes)>,
    /// Why it died.
    pub class: DeadLetterClass,
    /// What the last error said; never a payload value.
    pub error: String,
    /// A stable code of the last error, for filters.
    pub code: String,
    /// Deliveries or errors it took.
    pub fail_count: u32,
    /// When it failed first, as far as is known.
    pub first_failed_at: Timestamp,
    /// When it failed last.
    pub last_failed_at: Timestamp,
    /// Who gave up.
    pub consumer: String,
    /// The group that it gave up for.
    pub group: String,
    /// The tries since the message was last published, oldest first, the last one included; a
    /// bounded number of them.
    pub attempts: Vec<Attempt>,
}

/// Keeps dead letters. Filled by the product's store; a no-op keeper would lose data, so there
/// is none.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Keeps the letters durably, or says why not. The same letter (stream and entry id) may
    /// come again after a crash and is kept once.
    async fn keep(&self, letters: &[DeadLetter]) -> Result<(), PortError>;
}

/// Why a port could not do its work; always worth another try.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct PortError {
    what: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl PortError {
    /// Wraps the port's own error.
    pub fn new(
        what: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self {
            what: what.into(),
            source: Some(Box::new(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_back_from_their_lines_and_a_cut_line_is_passed_over() {
        let attempt = |error: &str| Attempt {
            at: Timestamp::from_millisecond(1_700_000_000_123).unwrap(),
            consumer: "worker-1".to_owned(),
            code: "db.value".to_owned(),
            error: error.to_owned(),
        };
        let text = attempt("one").to_line() + &attempt("two\tlines\n").to_line();
        let read = Attempt::from_lines(&text);
        assert_eq!(read, [attempt("one"), attempt("two lines ")]);
        assert_eq!(Attempt::from_lines(&text[5..]).len(), 2);
        assert_eq!(Attempt::from_lines(&text[15..]).len(), 1);
        let long = attempt(&"x".repeat(1_000)).to_line();
        assert!(long.len() < 300, "{}", long.len());
    }
}
