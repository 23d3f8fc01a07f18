//! What the dispatch layer allocates: nothing for an entry, between its decoding and its outcome.
//!
//! A program of its own, because it counts every allocation of the process.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::alloc::System;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ratebox_db::Committed;
use ratebox_kit::{Clock, DeadLetter, DeadLetters, PortError};
use ratebox_stream::{
    Append, ClaimScope, Claimed, Consumer, ConsumerName, Entry, EntryId, Error, GroupName, Handler,
    Lane, LaneQuota, Lanes, Log, MemoryLog, Outcome, Policy, Settlement, Step, StreamName,
    Subscription, Tail, Wait,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations of a batch, whatever its size: futures, lists, names of metrics.
const A_BATCH_MAX: usize = 32;

/// Hands out batches that were made before, and forgets what is settled.
struct Prepared(Mutex<VecDeque<Vec<Entry>>>);

#[async_trait]
impl Log for Prepared {
    async fn append(&self, _entries: &[Append]) -> Vec<Result<EntryId, Error>> {
        Vec::new()
    }

    async fn ensure_group(&self, _sub: &Subscription) -> Result<(), Error> {
        Ok(())
    }

    async fn read(
        &self,
        _sub: &Subscription,
        _quotas: &[LaneQuota],
        _wait: Wait,
    ) -> Result<Vec<Entry>, Error> {
        Ok(self.0.lock().unwrap().pop_front().unwrap_or_default())
    }

    async fn claim(
        &self,
        _sub: &Subscription,
        _lane: Lane,
        _cursor: EntryId,
        _scope: ClaimScope<'_>,
        _max: usize,
    ) -> Result<Claimed, Error> {
        Ok(Claimed::default())
    }

    async fn touch(
        &self,
        _sub: &Subscription,
        _held: &[(Lane, EntryId)],
    ) -> Result<Vec<(Lane, EntryId)>, Error> {
        Ok(Vec::new())
    }

    async fn settle(
        &self,
        _sub: &Subscription,
        _settlements: &[Settlement<'_>],
    ) -> Result<(), Error> {
        Ok(())
    }

    async fn promote(&self, _sub: &Subscription, _max: usize) -> Result<usize, Error> {
        Ok(0)
    }

    async fn tail(
        &self,
        _stream: &StreamName,
        _after: Option<EntryId>,
        _max: usize,
        _wait: Duration,
    ) -> Result<Tail, Error> {
        panic!("nobody tails this")
    }
}

/// Done with everything, at once.
struct Done;

#[async_trait]
impl Handler for Done {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        let proof = Committed::outside("a test without effects");
        let mut outcomes = Vec::with_capacity(batch.len());
        for entry in batch {
            let proof = proof.clone();
            outcomes.push(Outcome::Done { entry, proof });
        }
        outcomes
    }
}

#[async_trait]
impl DeadLetters for Done {
    async fn keep(&self, letters: &[DeadLetter]) -> Result<(), PortError> {
        panic!("{} dead letters", letters.len());
    }
}

fn batch(stream: &StreamName, first: u64, count: u64) -> Vec<Entry> {
    let entry = |number| Entry {
        stream: stream.clone(),
        lane: Lane::Normal,
        id: EntryId::new(first + number, 0),
        deliveries: 1,
        fields: vec![
            ("data".into(), Bytes::from_static(b"{}")),
            ("rb-id".into(), Bytes::from_static(b"m")),
        ],
    };
    (0..count).map(entry).collect()
}

#[tokio::test]
async fn dispatch_allocates_for_a_batch_and_never_for_an_entry() {
    let stream = StreamName::new("s");
    // The first rounds make the tables as large as they get.
    let sizes = [500, 500, 50, 500, 10, 500];
    let batches = sizes.iter().zip(1..);
    let batches = batches.map(|(size, round)| batch(&stream, round * 10_000, *size));
    let log = Arc::new(Prepared(Mutex::new(batches.collect())));
    let sub = Subscription::new(
        Lanes::only(&stream),
        GroupName::new("g"),
        ConsumerName::new("a"),
    );
    // Nothing is due while we count.
    let policy = Policy {
        claim_every: Duration::from_secs(3_600),
        ..Policy::default()
    };
    let clock = Clock::system();
    // Orders of operators are followed, as a worker does; there are none.
    let orders = Arc::new(MemoryLog::new(clock.clone()));
    let consumer = Consumer::new(log, Arc::new(Done), sub, policy, clock).with_dispatcher(orders);
    let mut counts = Vec::new();
    for size in sizes {
        let region = Region::new(COUNTED);
        let step = consumer.step(&Done).await.unwrap();
        let change = region.change();
        counts.push(change.allocations + change.reallocations);
        assert_eq!(step, Step::Did(usize::try_from(size).unwrap()));
    }
    let [.., of_50, of_500, of_10, again] = counts[..] else {
        panic!("six rounds");
    };
    assert!(of_500 <= A_BATCH_MAX, "{counts:?}");
    assert_eq!(of_500, again, "{counts:?}");
    // The table of what is held may be laid out anew once, which is no matter of one entry.
    assert!(of_500 <= of_10 + 2 && of_500 <= of_50 + 2, "{counts:?}");
    assert_eq!(consumer.held(), 0);
}
