//! What a consumer must not do with what it has in its hands. The model found each of these.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use ratebox_kit::{Clock, DeadLetterClass, Timestamp};
use ratebox_stream::conformance::{Bed, Letters, Waits, done};
use ratebox_stream::{
    Append, ClaimScope, Claimed, Consumer, Entry, EntryId, Error, Handler, Lane, LaneQuota, Log,
    MemoryLog, Outcome, Policy, Settlement, StreamName, Subscription, Tail, Wait,
};

fn bed() -> Bed {
    let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
    let log = Arc::new(MemoryLog::new(clock.clone()));
    crate::memory::with(log, Waits::Moves(clock))
}

/// Remembers its batches, says that the database is away, and dies of a killer.
#[derive(Default)]
struct Moody {
    batches: Mutex<Vec<Vec<String>>>,
    away: bool,
}

#[async_trait]
impl Handler for Moody {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        let ids: Vec<String> = batch
            .iter()
            .map(|it| it.message_id().into_owned())
            .collect();
        let dies = ids.iter().any(|id| id == "id-killer");
        self.batches.lock().unwrap().push(ids);
        if dies {
            std::future::pending::<()>().await;
        }
        let outcome = |entry| {
            if !self.away {
                return done(entry);
            }
            let (error, code) = ("away".to_owned(), "test.away".to_owned());
            Outcome::Pause { entry, error, code }
        };
        batch.into_iter().map(outcome).collect()
    }
}

#[tokio::test]
async fn an_entry_that_waits_in_its_own_hands_is_not_claimed_into_them_again() {
    let bed = bed();
    let letters = Letters::new();
    let consumer = bed.consumer("a", &letters, bed.policy()).await;
    bed.append(Lane::Normal, &["x"]).await;
    let mut moody = Moody {
        away: true,
        ..Moody::default()
    };
    // No heart beats while the log is away, or the process is paused: the lease is over.
    for _ in 0..6 {
        consumer.step(&moody).await.unwrap();
        bed.pass(bed.idle()).await;
    }
    moody.away = false;
    consumer.step(&moody).await.unwrap();
    let batches = moody.batches.into_inner().unwrap();
    assert!(batches.iter().all(|batch| batch.len() == 1), "{batches:?}");
    assert!(letters.kept().is_empty());
    assert_eq!((consumer.held(), bed.pending("g").await), (0, 0));
}

#[tokio::test]
async fn what_came_back_is_offered_once_though_a_lost_copy_still_waits() {
    let bed = bed();
    let policy = Policy {
        deliveries_max: 9,
        ..bed.policy()
    };
    let consumer = bed.consumer("a", &Letters::new(), policy).await;
    bed.append(Lane::Normal, &["x"]).await;
    let mut moody = Moody {
        away: true,
        ..Moody::default()
    };
    consumer.step(&moody).await.unwrap();
    bed.pass(bed.idle()).await;
    let thief = bed.member("thief").await;
    let scope = ClaimScope::Idle(bed.idle());
    let claim = bed.log.claim(&thief, Lane::Normal, EntryId::MIN, scope, 9);
    assert_eq!(claim.await.unwrap().entries.len(), 1);
    consumer.beat().await;
    assert_eq!(consumer.held(), 0);
    // The thief dies: the entry comes back to the one that still has its lost copy in a queue.
    bed.pass(bed.idle()).await;
    moody.away = false;
    consumer.step(&moody).await.unwrap();
    let batches = moody.batches.into_inner().unwrap();
    assert_eq!(batches, [["id-x"], ["id-x"]]);
}

#[tokio::test]
async fn a_killer_on_one_lane_costs_no_innocent_entry_on_another() {
    let bed = bed();
    let letters = Letters::new();
    bed.append(Lane::High, &["killer"]).await;
    bed.append(Lane::Normal, &["innocent"]).await;
    for life in 0..3 {
        let name = format!("life-{life}");
        let consumer = bed.consumer(&name, &letters, bed.policy()).await;
        let moody = Moody::default();
        // In memory nothing waits but the handler that died.
        let died = (0..20).any(|_| consumer.step(&moody).now_or_never().is_none());
        assert!(died, "life {life} never met the killer");
        bed.pass(bed.idle()).await;
    }
    let survivor = bed.consumer("survivor", &letters, bed.policy()).await;
    let moody = Moody::default();
    bed.drain(&survivor, &moody).await;
    let kept = letters.kept();
    let ids: Vec<&str> = kept.iter().map(|it| it.message_id.as_str()).collect();
    assert_eq!(ids, ["id-killer"]);
    assert_eq!(kept[0].class, DeadLetterClass::Poison);
    assert!(
        moody
            .batches
            .into_inner()
            .unwrap()
            .contains(&vec!["id-innocent".to_owned()])
    );
}

/// A log that is away for a while.
struct Outage {
    inner: Arc<dyn Log>,
    away: AtomicBool,
}

impl Outage {
    fn check(&self) -> Result<(), Error> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Error::Connection("an outage on purpose".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl Log for Outage {
    async fn append(&self, entries: &[Append]) -> Vec<Result<EntryId, Error>> {
        self.inner.append(entries).await
    }

    async fn ensure_group(&self, sub: &Subscription) -> Result<(), Error> {
        self.check()?;
        self.inner.ensure_group(sub).await
    }

    async fn read(
        &self,
        sub: &Subscription,
        quotas: &[LaneQuota],
        wait: Wait,
    ) -> Result<Vec<Entry>, Error> {
        self.check()?;
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
        self.check()?;
        self.inner.claim(sub, lane, cursor, scope, max).await
    }

    async fn touch(
        &self,
        sub: &Subscription,
        held: &[(Lane, EntryId)],
    ) -> Result<Vec<(Lane, EntryId)>, Error> {
        self.check()?;
        self.inner.touch(sub, held).await
    }

    async fn settle(&self, sub: &Subscription, these: &[Settlement<'_>]) -> Result<(), Error> {
        self.check()?;
        self.inner.settle(sub, these).await
    }

    async fn promote(&self, sub: &Subscription, max: usize) -> Result<usize, Error> {
        self.check()?;
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

#[tokio::test]
async fn outages_longer_than_the_lease_do_not_count_against_what_is_held() {
    let bed = bed();
    let log = Arc::new(Outage {
        inner: Arc::clone(&bed.log),
        away: AtomicBool::new(false),
    });
    let sub = bed.member("a").await;
    let (clock, letters) = (bed.clock.clone(), Letters::new());
    let consumer = Consumer::new(log.clone(), letters, sub, bed.policy(), clock);
    bed.append(Lane::Normal, &["x"]).await;
    let moody = Moody {
        away: true,
        ..Moody::default()
    };
    consumer.step(&moody).await.unwrap();
    for _ in 0..3 {
        log.away.store(true, Ordering::SeqCst);
        bed.pass(bed.idle()).await;
        consumer.step(&moody).await.unwrap_err();
        log.away.store(false, Ordering::SeqCst);
        consumer.step(&moody).await.unwrap();
    }
    assert_eq!(consumer.held(), 1);
    drop(consumer);
    bed.pass(bed.idle()).await;
    let heir = bed.member("heir").await;
    let scope = ClaimScope::Idle(bed.idle());
    let claim = bed.log.claim(&heir, Lane::Normal, EntryId::MIN, scope, 9);
    assert_eq!(claim.await.unwrap().entries[0].deliveries, 2);
}
