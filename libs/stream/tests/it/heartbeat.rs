//! What the heartbeat tells of, and what it does not.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::{Clock, Timestamp};
use ratebox_stream::conformance::{Bed, Judge, Letters, Waits, done};
use ratebox_stream::{
    Append, ClaimScope, Claimed, Consumer, Entry, EntryId, Error, Lane, LaneQuota, Log, MemoryLog,
    Settlement, Step, StreamName, Subscription, Tail, Wait, stats,
};

use crate::counted::Counted;

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
        wait: Wait,
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
    let lost = Counted::new(stats::LEASES_LOST);
    let _guard = metrics::set_default_local_recorder(&lost);
    bed.append_many(Lane::Normal, 5).await;
    let judge = Judge::new(|entry| Some(done(entry)));
    assert_eq!(consumer.step(&judge).await.unwrap(), Step::Did(5));
    assert_eq!((lost.count(), consumer.held()), (0, 0));
}

#[tokio::test]
async fn what_another_took_is_told_as_lost_once() {
    let (bed, consumer) = consumer_that_beats_in_between().await;
    let lost = Counted::new(stats::LEASES_LOST);
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

/// A holder beats and dies: what vanished in its hands must not be forgotten with it.
#[tokio::test]
async fn a_heartbeat_hides_no_loss() {
    let beds = [crate::running::memory(), crate::running::redis()];
    for bed in beds {
        let holder = bed.member("holder").await;
        let ids = bed.append(Lane::Normal, &["lost", "kept"]).await;
        assert_eq!(bed.read(&holder, 2).await.len(), 2);
        bed.sabotage.lose_entry(&bed.stream, ids[0]).await;
        let held: Vec<_> = ids.iter().map(|id| (Lane::Normal, *id)).collect();
        assert_eq!(bed.log.touch(&holder, &held).await.unwrap(), []);
        bed.pass(bed.idle()).await;
        let heir = bed.member("heir").await;
        let scope = ClaimScope::Idle(bed.idle());
        let claim = bed
            .log
            .claim(&heir, Lane::Normal, EntryId::MIN, scope, 9)
            .await
            .unwrap();
        assert_eq!((claim.vanished, claim.entries.len()), (vec![ids[0]], 1));
    }
}

/// Takes ten leases, with a heart that beats three times in each, while another looks for entries.
struct TakesItsTime<'a> {
    consumer: &'a Consumer,
    bed: &'a Bed,
    thief: Subscription,
}

#[async_trait]
impl ratebox_stream::Handler for TakesItsTime<'_> {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<ratebox_stream::Outcome> {
        let lease = self.bed.idle();
        for _ in 0..30 {
            self.bed.pass(lease / 3).await;
            self.consumer.beat().await;
            let scope = ClaimScope::Idle(lease);
            let claim = (self.bed.log).claim(&self.thief, Lane::Normal, EntryId::MIN, scope, 9);
            assert!(claim.await.unwrap().entries.is_empty());
        }
        batch.into_iter().map(done).collect()
    }
}

#[tokio::test]
async fn a_handler_that_runs_ten_times_the_lease_keeps_its_entry() {
    let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
    let log = Arc::new(MemoryLog::new(clock.clone()));
    let bed = crate::memory::with(log, Waits::Moves(clock));
    let consumer = bed.consumer("a", &Letters::new(), bed.policy()).await;
    bed.append(Lane::Normal, &["slow"]).await;
    let handler = TakesItsTime {
        consumer: &consumer,
        bed: &bed,
        thief: bed.member("thief").await,
    };
    assert_eq!(consumer.step(&handler).await.unwrap(), Step::Did(1));
    assert_eq!((bed.pending("g").await, consumer.held()), (0, 0));
}
