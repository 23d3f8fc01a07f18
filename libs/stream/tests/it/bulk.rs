//! Bulk work is read in small steps, so that something urgent never waits for a whole batch of it.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ratebox_kit::{Clock, Timestamp};
use ratebox_stream::conformance::{Bed, Letters, Waits, done};
use ratebox_stream::{Entry, Handler, Lane, MemoryLog, Outcome, Policy, Step};

/// Remembers each batch: how many of the high and of the low lane.
#[derive(Default)]
struct Batches(Mutex<Vec<(usize, usize)>>);

impl Batches {
    fn last(&self) -> (usize, usize) {
        *self.0.lock().unwrap().last().unwrap()
    }
}

#[async_trait]
impl Handler for Batches {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        let high = batch.iter().filter(|entry| entry.lane == Lane::High);
        let high = high.count();
        self.0.lock().unwrap().push((high, batch.len() - high));
        batch.into_iter().map(done).collect()
    }
}

async fn check(bed: Bed) {
    const BATCH: usize = 300;
    bed.append_many(Lane::Low, 4 * BATCH).await;
    let policy = Policy {
        batch_max: BATCH,
        ..bed.policy()
    };
    let consumer = bed.consumer("a", &Letters::new(), policy).await;
    let batches = Batches::default();
    let step = async || consumer.step(&batches).await.unwrap();
    assert_eq!(
        step().await,
        Step::Did(BATCH),
        "a batch is full all the same"
    );
    bed.append_many(Lane::High, 3).await;
    assert_eq!(step().await, Step::Did(3));
    assert_eq!(
        batches.last(),
        (3, 0),
        "what is urgent goes alone, and first"
    );
    assert_eq!(step().await, Step::Did(BATCH));
    assert_eq!(
        batches.last(),
        (0, BATCH),
        "what was read beside it is not lost"
    );
    while step().await != Step::Idle {}
    let sum = |sum: (usize, usize), one: &(usize, usize)| (sum.0 + one.0, sum.1 + one.1);
    let all = batches.0.lock().unwrap().iter().fold((0, 0), sum);
    assert_eq!(all, (3, 4 * BATCH));
    assert_eq!(bed.pending("g").await, 0);
}

#[tokio::test]
async fn an_urgent_entry_overtakes_bulk_work_in_memory() {
    let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
    let log = Arc::new(MemoryLog::new(clock.clone()));
    check(crate::memory::with(log, Waits::Moves(clock))).await;
}

#[tokio::test]
async fn an_urgent_entry_overtakes_bulk_work_on_redis() {
    let server = ratebox_testkit::RedisServer::shared().unwrap();
    check(crate::redis::on(server.url())).await;
}
