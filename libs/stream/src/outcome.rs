//! What a handler says of each entry.

use std::time::Duration;

use async_trait::async_trait;
use ratebox_db::Committed;
use ratebox_kit::DeadLetterClass;

use crate::Entry;

/// What became of one entry. The entry moves in, so it is decided once.
#[derive(Debug)]
pub enum Outcome {
    /// Its effects are committed: it is acknowledged.
    Done {
        /// The entry.
        entry: Entry,
        /// That the commit returned. One commit covers a batch, so it can be cloned.
        proof: Committed,
    },
    /// It failed in a way that may pass. Comes again with backoff; after the last retry it is a
    /// dead letter of class `transient`.
    Retry {
        /// The entry.
        entry: Entry,
        /// What went wrong, without payload values.
        error: String,
        /// A stable code for filters.
        code: String,
    },
    /// It can never succeed: a dead letter at once.
    Dead {
        /// The entry.
        entry: Entry,
        /// Why.
        class: DeadLetterClass,
        /// What went wrong, without payload values.
        error: String,
        /// A stable code for filters.
        code: String,
    },
    /// What every entry needs is away (the database is down), so nothing can be said of this one.
    /// No attempt is used: the consumer keeps the entry and its lease, stops taking new ones, and
    /// offers it again with backoff until the handler gets through, or until others should have it
    /// ([`crate::Policy::hand_back_after`]).
    Pause {
        /// The entry.
        entry: Entry,
        /// What is away.
        error: String,
        /// A stable code for filters.
        code: String,
    },
    /// Not yet: it comes again after `wait`, and no attempt is used. Counted in
    /// [`Entry::snoozes`], so that a handler can give up.
    Snooze {
        /// The entry.
        entry: Entry,
        /// From now on the log's clock. It comes within a second after.
        wait: Duration,
    },
    /// Not wanted here and now: another consumer may take it at once, and this delivery does not
    /// count.
    Release {
        /// The entry.
        entry: Entry,
    },
}

impl Outcome {
    /// The entry that it is about.
    pub fn entry(&self) -> &Entry {
        match self {
            Self::Done { entry, .. }
            | Self::Retry { entry, .. }
            | Self::Dead { entry, .. }
            | Self::Pause { entry, .. }
            | Self::Snooze { entry, .. }
            | Self::Release { entry } => entry,
        }
    }
}

/// Works on batches. At least once: an entry may come again after a crash, so the effects must
/// be idempotent (an inbox mark in the same transaction).
#[async_trait]
pub trait Handler: Send + Sync {
    /// Returns one outcome for each entry, in any order. An entry without an outcome counts as
    /// failed with code `handler.no_outcome`; when the call panics, the entries are offered again
    /// one by one, and the one that panics alone counts as failed with code `handler.panicked`.
    ///
    /// A call that runs beyond [`crate::Policy::handler_timeout`], or works on a message that an
    /// operator cancels, is dropped where it waits. What it committed before stays committed.
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome>;

    /// Whether what every entry needs is there. Asked while it was away for so long that entries
    /// were handed back ([`crate::Policy::hand_back_after`]), before one is taken to try. Who cannot
    /// tell says yes, and the entry finds out.
    async fn is_ready(&self) -> bool {
        true
    }
}
