//! Bulk work ends while a read of urgent entries is under way: what that read brings begins at once,
//! although the loop waits in a read of its own by then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::Clock;
use ratebox_stream::conformance::{Bed, Letters, done};
use ratebox_stream::{
    Append, ClaimScope, Claimed, Consumer, Entry, EntryId, Error, Handler, Lane, LaneQuota, Log,
    Outcome, Policy, Settlement, StreamName, Subscription, Tail, Wait,
};
use ratebox_testkit::wait_until;
use tokio::sync::Semaphore;

use crate::running::PATIENCE;

/// A log whose reads are let through by the test: those of the urgent way, and those of the loop that
/// would wait.
struct Gates {
    inner: Arc<dyn Log>,
    urgent: Semaphore,
    waiting: Semaphore,
    urgent_came: AtomicBool,
    waiting_came: AtomicBool,
}

impl Gates {
    fn on(bed: &Bed) -> Arc<Self> {
        Arc::new(Self {
            inner: bed.log.clone(),
            urgent: Semaphore::new(0),
            waiting: Semaphore::new(0),
            urgent_came: AtomicBool::new(false),
            waiting_came: AtomicBool::new(false),
        })
    }
}

#[async_trait]
impl Log for Gates {
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
        let is_urgent = quotas.iter().all(|quota| quota.lane != Lane::Low);
        let (came, gate) = match is_urgent {
            true => (&self.urgent_came, &self.urgent),
            false => (&self.waiting_came, &self.waiting),
        };
        if !wait.time().is_zero() {
            came.store(true, Ordering::SeqCst);
            let _through = gate.acquire().await.unwrap();
        }
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

    async fn settle(&self, sub: &Subscription, these: &[Settlement<'_>]) -> Result<(), Error> {
        self.inner.settle(sub, these).await
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

/// Counts by lane.
#[derive(Default)]
struct Counts {
    high: AtomicUsize,
    low: AtomicUsize,
}

#[async_trait]
impl Handler for Counts {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        for entry in &batch {
            match entry.lane {
                Lane::Low => self.low.fetch_add(1, Ordering::SeqCst),
                Lane::High | Lane::Normal => self.high.fetch_add(1, Ordering::SeqCst),
            };
        }
        batch.into_iter().map(done).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_as_bulk_work_ends_begins_at_once() {
    const BULK: usize = 2_000;
    let bed = crate::running::memory();
    let (log, counts) = (Gates::on(&bed), Arc::new(Counts::default()));
    bed.append_many(Lane::Low, BULK).await;
    // Maintenance would end the wait of the loop.
    let policy = Policy {
        claim_every: Duration::from_secs(600),
        block: Duration::from_secs(600),
        batches_in_flight: 3,
        ..bed.policy()
    };
    let sub = bed.member("a").await;
    let consumer = Consumer::new(log.clone(), Letters::new(), sub, policy, Clock::system());
    let tasks = ratebox_kit::Tasks::new();
    let (of, handler) = (tasks.clone(), counts.clone());
    tasks.spawn("consumer", async move { consumer.run(handler, &of).await });
    wait_until(
        PATIENCE,
        "bulk work is done, and both reads wait",
        async || {
            let both =
                log.urgent_came.load(Ordering::SeqCst) && log.waiting_came.load(Ordering::SeqCst);
            both && counts.low.load(Ordering::SeqCst) == BULK
        },
    )
    .await;
    bed.append_many(Lane::High, 3).await;
    log.urgent.add_permits(1);
    wait_until(PATIENCE, "what is urgent has begun", async || {
        counts.high.load(Ordering::SeqCst) == 3
    })
    .await;
    // The loop was in its read all the while.
    bed.append_many(Lane::Low, 1).await;
    // Before its read ends: another one would wait for what never comes.
    tasks.stop();
    log.waiting.add_permits(1_000);
    log.urgent.add_permits(1_000);
    assert!(tasks.join(PATIENCE).await.is_empty());
}
