//! What became of a delivery.

use ratebox_db::Committed;
use ratebox_kit::Timestamp;
use uuid::Uuid;

/// A delivery that is settled: acknowledge it.
#[derive(Debug)]
pub struct Handled<T> {
    /// What became of it.
    pub outcome: Outcome<T>,
    /// The commit after which the message may be acknowledged.
    pub proof: Committed,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// It had its effect now.
    Processed(T),
    /// It had its effect before; with that result, when the consumer keeps results.
    Duplicate(Option<T>),
    /// It was given up, now or before, and waits for an operator.
    Parked,
}

/// A message that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// What the inbox knows it by.
    pub event_id: Uuid,
    /// Where it came from.
    pub topic: String,
    /// What it tells.
    pub event_type: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Why: what the last attempt that said anything said, or that each ended with its process.
    pub last_error: Option<String>,
    /// When it was given up.
    pub parked_at: Timestamp,
}
