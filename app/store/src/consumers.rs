//! What each consumer has done, for operators.

use ratebox_db::{Conflict, Insert, Statement};
use ratebox_kit::Timestamp;

use crate::Result;

/// What one batch adds to its consumer's figures.
#[derive(Clone, Debug)]
pub struct BatchCount<'a> {
    /// The consumer group.
    pub group: &'a str,
    /// The consumer.
    pub consumer: &'a str,
    /// The stream.
    pub stream: &'a str,
    /// Its row among the consumer's: one for each batch that is under way at the same time.
    pub slot: u16,
    /// Messages that reached a verdict.
    pub processed: u64,
    /// Of these, messages with at least one item in error.
    pub with_errors: u64,
    /// Messages that had their effect before and got no second one.
    pub suppressed: u64,
    /// The last entry.
    pub last_entry: String,
    /// When.
    pub at: Timestamp,
}

pub(crate) static COUNT: Insert = Insert::new(
    "stream_consumer_stats",
    &[
        ("consumer_group", "text"),
        ("consumer_name", "text"),
        ("stream_name", "text"),
        ("slot", "smallint"),
        ("messages_processed", "bigint"),
        ("messages_with_errors", "bigint"),
        ("messages_suppressed", "bigint"),
        ("last_message_id", "text"),
        ("last_processed_at", "timestamptz"),
        ("created_at", "timestamptz"),
        ("updated_at", "timestamptz"),
    ],
    Conflict::Update(
        "(consumer_group, consumer_name, stream_name, slot) DO UPDATE SET
            messages_processed
                = stream_consumer_stats.messages_processed + excluded.messages_processed,
            messages_with_errors
                = stream_consumer_stats.messages_with_errors + excluded.messages_with_errors,
            messages_suppressed
                = stream_consumer_stats.messages_suppressed + excluded.messages_suppressed,
            last_message_id = excluded.last_message_id,
            last_processed_at = excluded.last_processed_at, updated_at = excluded.updated_at",
    ),
);

impl BatchCount<'_> {
    /// The statement that adds the batch to its consumer's figures. Run it last in the batch's
    /// transaction: it locks the row of the slot.
    ///
    /// # Errors
    /// Never; the row is made here.
    pub fn statement(&self) -> Result<Statement> {
        let mut row = COUNT.rows();
        row.push(self.group).push(self.consumer);
        row.push(self.stream).push(self.slot);
        row.push(self.processed).push(self.with_errors);
        row.push(self.suppressed);
        row.push(self.last_entry.as_str());
        row.push(self.at).push(self.at).push(self.at);
        Ok(row.into_statement()?)
    }
}
