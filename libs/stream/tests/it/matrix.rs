//! Lines of the fault matrix that ask for a size or for a kill of connections.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_stream::conformance::{Bed, Judge, Letters, done};
use ratebox_stream::{
    ClaimScope, Entry, EntryId, HandTo, Handler, Lane, Outcome, Policy, Settlement, Step,
    Subscription,
};
use ratebox_testkit::{RedisOptions, RedisServer, wait_until};

use crate::running::{Gate, PATIENCE, Running, redis};

/// Reads so many fresh entries and keeps them pending.
async fn hold(bed: &Bed, sub: &Subscription, count: usize) -> Vec<Entry> {
    let mut held = Vec::new();
    while held.len() < count {
        let more = bed.read(sub, (count - held.len()).min(5_000)).await;
        assert!(!more.is_empty());
        held.extend(more);
    }
    held
}

#[tokio::test]
async fn a_reclaim_of_fifty_thousand_gets_past_what_is_still_worked_on() {
    const ALIVE: usize = 10_000;
    const DEAD: usize = 40_000;
    // Longer than the test: what the living hold never looks idle, however slow the machine is.
    const LEASE: Duration = Duration::from_secs(600);
    let bed = redis();
    for _ in 0..(ALIVE + DEAD) / 5_000 {
        bed.append_many(Lane::Normal, 5_000).await;
    }
    // Those of the living are the oldest, and stand before those of the dead in every scan.
    let (alive, dead) = (bed.member("alive").await, bed.member("dead").await);
    let held: HashSet<EntryId> = hold(&bed, &alive, ALIVE)
        .await
        .iter()
        .map(|it| it.id)
        .collect();
    let left = hold(&bed, &dead, DEAD).await;
    // As old as what somebody left long ago.
    let release = |entry: &Entry| Settlement::Release {
        lane: entry.lane,
        id: entry.id,
        deliveries: entry.deliveries,
        to: HandTo::WhoeverWaits,
    };
    let aged: Vec<_> = left.iter().map(release).collect();
    bed.log.settle(&dead, &aged).await.unwrap();
    let heir = bed.member("heir").await;
    let (mut taken, mut cursor, mut claims) = (HashSet::new(), EntryId::MIN, 0);
    while taken.len() < DEAD {
        let scope = ClaimScope::Idle(LEASE);
        let claim = bed.log.claim(&heir, Lane::Normal, cursor, scope, 500);
        let claimed = claim.await.unwrap();
        taken.extend(claimed.entries.iter().map(|it| it.id));
        cursor = claimed.next;
        claims += 1;
        assert!(claims <= 150, "{} after {claims} claims", taken.len());
    }
    assert!(taken.is_disjoint(&held));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_and_fifty_six_that_were_read_ahead_are_the_next_members_at_once() {
    let bed = redis();
    bed.append_many(Lane::Normal, 3_000).await;
    let policy = Policy {
        batch_max: 1_000,
        batches_in_flight: 1,
        // Far longer than the test: only what was handed back can be claimed.
        claim_idle: Duration::from_secs(600),
        heartbeat: Duration::from_secs(100),
        ..bed.policy()
    };
    let gate = Gate::new(0);
    let first = bed.consumer("first", &Letters::new(), policy.clone()).await;
    let running = Running::run(first, gate.clone());
    wait_until(PATIENCE, "one batch is in work, one read ahead", || async {
        let started = gate.started();
        started > 0 && running.consumer.held() >= started + 256
    })
    .await;
    running.ask_to_stop();
    gate.open.add_permits(1);
    running.stop().await;
    assert_eq!((gate.done(), running.consumer.held()), (gate.started(), 0));
    let next = bed.consumer("next", &Letters::new(), policy).await;
    let judge = Judge::new(|entry| Some(done(entry)));
    let step = next.step(&judge).await.unwrap();
    assert!(matches!(step, Step::Did(256..)), "{step:?}");
}

/// Remembers every message that was done.
#[derive(Default)]
struct Ledger(Mutex<HashSet<String>>);

#[async_trait]
impl Handler for Ledger {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        let ids = batch.iter().map(|entry| entry.message_id().into_owned());
        self.0.lock().unwrap().extend(ids);
        batch.into_iter().map(done).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_goes_on_while_every_connection_is_killed_again_and_again() {
    const ROUND: usize = 500;
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let bed = crate::redis::on(&server.url());
    let ledger = Arc::new(Ledger::default());
    let consumer = bed.consumer("a", &Letters::new(), bed.policy()).await;
    let running = Running::run(consumer, ledger.clone());
    let writer = crate::redis::on(&server.url());
    for round in 1..=10 {
        let appends: Vec<_> = (0..ROUND)
            .map(|number| {
                let message = ratebox_kit::Message::new(format!("{round}-{number}"), "x");
                ratebox_stream::Append::new(bed.stream.clone(), message)
            })
            .collect();
        for added in writer.log.append(&appends).await {
            added.unwrap();
        }
        server
            .command(&["CLIENT", "KILL", "TYPE", "normal"])
            .unwrap();
        wait_until(PATIENCE, "what was sent is done", || async {
            ledger.0.lock().unwrap().len() == round * ROUND
        })
        .await;
        // The writer's connection was killed, too, and is dialled anew.
        wait_until(PATIENCE, "the writer is back", || async {
            writer.admin.ping().await.is_ok()
        })
        .await;
    }
    wait_until(PATIENCE, "nothing is pending", || async {
        bed.pending("g").await == 0
    })
    .await;
    running.stop().await;
}
