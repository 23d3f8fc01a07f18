//! What each consumer has done, for operators.

use ratebox_db::{Sql, Statement};
use ratebox_kit::Timestamp;

use crate::Store;

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
    /// The last entry.
    pub last_entry: String,
    /// When.
    pub at: Timestamp,
}

const COUNT: Sql = Sql {
    postgres: "INSERT INTO stream_consumer_stats AS s (consumer_group, consumer_name, stream_name,
            messages_processed, messages_with_errors, last_message_id, last_processed_at, slot)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (consumer_group, consumer_name, stream_name, slot) DO UPDATE SET
            messages_processed = s.messages_processed + excluded.messages_processed,
            messages_with_errors = s.messages_with_errors + excluded.messages_with_errors,
            last_message_id = excluded.last_message_id,
            last_processed_at = excluded.last_processed_at, updated_at = now()",
    sqlite: "INSERT INTO stream_consumer_stats AS s (consumer_group, consumer_name, stream_name,
            messages_processed, messages_with_errors, last_message_id, last_processed_at,
            slot, created_at, updated_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?7, ?7)
        ON CONFLICT (consumer_group, consumer_name, stream_name, slot) DO UPDATE SET
            messages_processed = s.messages_processed + excluded.messages_processed,
            messages_with_errors = s.messages_with_errors + excluded.messages_with_errors,
            last_message_id = excluded.last_message_id,
            last_processed_at = excluded.last_processed_at, updated_at = excluded.updated_at",
};

pub(crate) const STATEMENTS: &[Sql] = &[COUNT];

impl Store {
    /// The statement that adds a batch to its consumer's figures. Run it last in the batch's
    /// transaction: it locks the row of the slot.
    pub fn count_batch(&self, batch: BatchCount<'_>) -> Statement {
        COUNT.with(vec![
            batch.group.into(),
            batch.consumer.into(),
            batch.stream.into(),
            batch.processed.into(),
            batch.with_errors.into(),
            batch.last_entry.into(),
            batch.at.into(),
            batch.slot.into(),
        ])
    }
}
