//! The log in memory, on a clock that the cases move.

use std::sync::Arc;

use async_trait::async_trait;
use ratebox_kit::{Clock, Timestamp};
use ratebox_stream::conformance::{Bed, Sabotage, Waits};
use ratebox_stream::{EntryId, MemoryLog, StreamName};

ratebox_stream::conformance!(bed);

async fn bed() -> Bed {
    let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
    with(Arc::new(MemoryLog::new(clock.clone())), Waits::Moves(clock))
}

/// A bed on this log.
pub(crate) fn with(log: Arc<MemoryLog>, waits: Waits) -> Bed {
    let saboteur = Arc::new(Saboteur(log.clone()));
    Bed::new(log.clone(), log.clone(), saboteur, waits).with_dispatcher(log)
}

struct Saboteur(Arc<MemoryLog>);

#[async_trait]
impl Sabotage for Saboteur {
    async fn lose_entry(&self, stream: &StreamName, id: EntryId) {
        self.0.lose_entry(stream, id);
    }

    async fn lose_stream(&self, stream: &StreamName) {
        self.0.lose_stream(stream);
    }
}
