//! The log in memory, on a clock that the cases move.

use std::sync::Arc;

use async_trait::async_trait;
use ratebox_kit::{Clock, Timestamp};
use ratebox_stream::conformance::{Bed, Sabotage, Waits};
use ratebox_stream::{EntryId, MemoryLog, StreamName};

ratebox_stream::conformance!(bed);

async fn bed() -> Bed {
    let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
    let log = Arc::new(MemoryLog::new(clock.clone()));
    Bed::new(
        log.clone(),
        log.clone(),
        Arc::new(Saboteur(log)),
        Waits::Moves(clock),
    )
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
