//! What a consumer must not do with what it has in its hands. The model found each of these.

use std::sync::Mutex;

use async_trait::async_trait;
use futures_util::FutureExt;
use ratebox_kit::{Clock, DeadLetterClass, Timestamp};
use ratebox_stream::conformance::{Bed, Letters, Waits, done};
use ratebox_stream::{ClaimScope, Entry, EntryId, Handler, Lane, MemoryLog, Outcome, Policy};

fn bed() -> Bed {
    let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
    let log = std::sync::Arc::new(MemoryLog::new(clock.clone()));
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
