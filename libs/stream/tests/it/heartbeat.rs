//! What the heartbeat tells of, and what it does not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use metrics::{
    Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use ratebox_kit::{Clock, Timestamp};
use ratebox_stream::conformance::{Bed, Judge, Letters, Waits, done};
use ratebox_stream::{
    Append, ClaimScope, Claimed, Consumer, Entry, EntryId, Error, Lane, LaneQuota, Log, MemoryLog,
    Settlement, Step, StreamName, Subscription, Tail, stats,
};

/// Counts the leases that were told as lost.
#[derive(Clone, Default)]
struct Lost(Arc<AtomicU64>);

impl Lost {
    fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl CounterFn for Lost {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::SeqCst);
    }

    fn absolute(&self, value: u64) {
        self.0.store(value, Ordering::SeqCst);
    }
}

impl Recorder for Lost {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() == stats::LEASES_LOST {
            Counter::from_arc(Arc::new(self.clone()))
        } else {
            Counter::noop()
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Lets the heart of a consumer beat after each settlement, before its answer is back.
struct BeatsInBetween {
    inner: Arc<MemoryLog>,
    consumer: OnceLock<Weak<Consumer>>,
}

#[async_trait]
impl Log for BeatsInBetween {
    async fn settle(
        &self,
        sub: &Subscription,
        settlements: &[Settlement<'_>],
    ) -> Result<(), Error> {
        self.inner.settle(sub, settlements).await?;
        if let Some(consumer) = self.consumer.get().and_then(Weak::upgrade) {
            consumer.beat().await;
        }
        Ok(())
    }

    async fn append(&self, entries: &[Append]) -> Vec<Result<EntryId, Error>> {
        self.inner.append(entries).await
    }

    async fn ensure_group(&self, sub: &Subscription) -> Result<(), Error> {
        self.inner.ensure_group(sub).await
    }

    async fn read(
        &self,
        sub: &Subscription,
        quotas: &[LaneQuota],
        wait: Duration,
    ) -> Result<Vec<Entry>, Error> {
        self.inner.read(sub, quotas, wait).await
    }

    async fn claim(
        &self,
        sub: &Subscription,
        lane: Lane,
        cursor: EntryId,
        scope: ClaimScope<'_>,
        max: usize,
    ) -> Result<Claimed, Error> {
        self.inner.claim(sub, lane, cursor, scope, max).await
    }

    async fn touch(
        &self,
        sub: &Subscription,
        held: &[(Lane, EntryId)],
    ) -> Result<Vec<(Lane, EntryId)>, Error> {
        self.inner.touch(sub, held).await
    }

    async fn promote(&self, sub: &Subscription, max: usize) -> Result<usize, Error> {
        self.inner.promote(sub, max).await
    }

    async fn tail(
        &self,
        stream: &StreamName,
        after: Option<EntryId>,
        max: usize,
        wait: Duration,
    ) -> Result<Tail, Error> {
        self.inner.tail(stream, after, max, wait).await
    }
}

async fn consumer_that_beats_in_between() -> (Bed, Arc<Consumer>) {
    let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
    let inner = Arc::new(MemoryLog::new(clock.clone()));
    let log = Arc::new(BeatsInBetween {
        inner: Arc::clone(&inner),
        consumer: OnceLock::new(),
    });
    let mut bed = crate::memory::with(inner, Waits::Moves(clock));
    bed.log = log.clone();
    let consumer = bed.consumer("a", &Letters::new(), bed.policy()).await;
    let consumer = Arc::new(consumer);
    log.consumer.set(Arc::downgrade(&consumer)).unwrap();
    (bed, consumer)
}

#[tokio::test]
async fn what_was_settled_while_the_heart_beat_is_not_told_as_lost() {
    let (bed, consumer) = consumer_that_beats_in_between().await;
    let lost = Lost::default();
    let _guard = metrics::set_default_local_recorder(&lost);
    bed.append_many(Lane::Normal, 5).await;
    let judge = Judge::new(|entry| Some(done(entry)));
    assert_eq!(consumer.step(&judge).await.unwrap(), Step::Did(5));
    assert_eq!((lost.count(), consumer.held()), (0, 0));
}

#[tokio::test]
async fn what_another_took_is_told_as_lost_once() {
    let (bed, consumer) = consumer_that_beats_in_between().await;
    let lost = Lost::default();
    let _guard = metrics::set_default_local_recorder(&lost);
    bed.append_many(Lane::Normal, 3).await;
    let thief = bed.member("thief").await;
    let (thief, of) = (&thief, &bed);
    let steals = Steals { thief, of };
    consumer.step(&steals).await.unwrap();
    consumer.beat().await;
    consumer.beat().await;
    assert_eq!((lost.count(), consumer.held()), (3, 0));
}

/// Is so slow that another member claims the batch; then asks for a pause.
struct Steals<'a> {
    thief: &'a Subscription,
    of: &'a Bed,
}

#[async_trait]
impl ratebox_stream::Handler for Steals<'_> {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<ratebox_stream::Outcome> {
        self.of.pass(self.of.idle()).await;
        let scope = ClaimScope::Idle(self.of.idle());
        let claim = (self.of.log).claim(self.thief, Lane::Normal, EntryId::MIN, scope, 9);
        assert_eq!(claim.await.unwrap().entries.len(), batch.len());
        let pause = |entry| ratebox_stream::Outcome::Pause {
            entry,
            error: "away".to_owned(),
            code: "test.away".to_owned(),
        };
        batch.into_iter().map(pause).collect()
    }
}
