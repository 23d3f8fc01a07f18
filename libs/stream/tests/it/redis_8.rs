//! The log on Redis 8, and what it does with the commands that came after 7.0.

use std::sync::Arc;
use std::time::Duration;

use ratebox_stream::conformance::Bed;
use ratebox_stream::{
    ClaimScope, ConsumerName, Entry, EntryId, Error, HandTo, Lane, LaneQuota, Log as _, Policy,
    RedisLog, Settlement, Subscription, Wait,
};
use ratebox_testkit::{RedisOptions, RedisServer, wait_until};
use ratebox_valkey::{Ability, Settings, Valkey};

use crate::redis::{on, with};
use crate::running::{Gate, PATIENCE, Running};

ratebox_stream::conformance!(bed);

/// Nothing that is looked for every hour is found by a test.
const NEVER: Duration = Duration::from_secs(60 * 60);

async fn bed() -> Bed {
    on(RedisServer::shared_redis_8().unwrap().url())
}

/// A member with these messages of the normal lane in its hands.
async fn reader(bed: &Bed, bodies: &[&str]) -> (Subscription, Vec<Entry>) {
    let reader = bed.member("reader").await;
    bed.append(Lane::Normal, bodies).await;
    let entries = bed.read(&reader, bodies.len()).await;
    assert_eq!(entries.len(), bodies.len());
    (reader, entries)
}

async fn hand_back(bed: &Bed, sub: &Subscription, entries: &[Entry]) {
    let release = |entry: &Entry| Settlement::Release {
        lane: entry.lane,
        id: entry.id,
        deliveries: entry.deliveries,
        to: HandTo::WhoeverWaits,
    };
    let releases: Vec<_> = entries.iter().map(release).collect();
    bed.log.settle(sub, &releases).await.unwrap();
}

async fn let_go(bed: &Bed, sub: &Subscription, entry: &Entry) {
    let release = Settlement::Release {
        lane: entry.lane,
        id: entry.id,
        deliveries: entry.deliveries,
        to: HandTo::Claims,
    };
    bed.log.settle(sub, &[release]).await.unwrap();
}

async fn claim(bed: &Bed, sub: &Subscription) -> Vec<Entry> {
    let scope = ClaimScope::Idle(NEVER);
    let claimed = bed.log.claim(sub, Lane::Normal, EntryId::MIN, scope, 10);
    claimed.await.unwrap().entries
}

fn ids(entries: &[Entry]) -> Vec<String> {
    let id = |entry: &Entry| entry.message_id().into_owned();
    entries.iter().map(id).collect()
}

const NORMAL: [LaneQuota; 1] = [LaneQuota {
    lane: Lane::Normal,
    max: 10,
}];

async fn is_anyone_blocked(server: &RedisServer) -> bool {
    let clients = server.command(&["INFO", "clients"]).unwrap();
    !clients.as_str().unwrap().contains("blocked_clients:0")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_handed_back_goes_to_a_consumer_that_waits_and_looks_for_nothing_idle() {
    let server = RedisServer::start(RedisOptions::redis_8()).unwrap();
    let bed = on(&server.url());
    let (reader, entries) = reader(&bed, &["1", "2", "3"]).await;
    let policy = Policy {
        claim_every: NEVER,
        ..bed.policy()
    };
    let gate = Gate::new(100);
    let running = Running::start(&bed, "waits", policy, gate.clone()).await;
    let is_waiting = || is_anyone_blocked(&server);
    wait_until(PATIENCE, "it waits for fresh entries", is_waiting).await;
    hand_back(&bed, &reader, &entries).await;
    wait_until(PATIENCE, "all are done", || async { gate.done() == 3 }).await;
    running.stop().await;
    assert_eq!(bed.pending("g").await, 0);
}

#[tokio::test]
async fn a_read_brings_what_was_handed_back_and_nothing_that_somebody_works_on() {
    let bed = bed().await;
    let (reader, entries) = reader(&bed, &["1", "2", "3"]).await;
    hand_back(&bed, &reader, &entries[1..2]).await;
    let other = bed.member("other").await;
    let wait = Duration::from_secs(10);
    for _ in 0..2 {
        let read = bed.log.read(&other, &NORMAL, Wait::WithReturned(wait));
        let read = read.await.unwrap();
        assert_eq!(ids(&read), ["id-2"]);
        assert_eq!(read[0].deliveries, 1, "a hand-back charges nothing");
        hand_back(&bed, &other, &read).await;
    }
    // Fresh ones come beside it.
    bed.append(Lane::Normal, &["4"]).await;
    let read = bed
        .log
        .read(&other, &NORMAL, Wait::WithReturned(wait))
        .await;
    let read = read.unwrap();
    assert_eq!(ids(&read), ["id-2", "id-4"]);
    // The deliveries before a hand-back count.
    let again = bed.log.claim(
        &reader,
        Lane::Normal,
        EntryId::MIN,
        ClaimScope::Idle(Duration::ZERO),
        10,
    );
    let again = again.await.unwrap().entries;
    let counts: Vec<u32> = again.iter().map(|entry| entry.deliveries).collect();
    assert_eq!(counts, [2; 4]);
    hand_back(&bed, &reader, &again[..1]).await;
    let read = bed
        .log
        .read(&other, &NORMAL, Wait::WithReturned(wait))
        .await;
    assert_eq!(read.unwrap()[0].deliveries, 2);
}

#[tokio::test]
async fn what_one_that_stays_lets_go_comes_back_by_a_claim_and_not_at_once() {
    let bed = bed().await;
    let (reader, entries) = reader(&bed, &["1"]).await;
    let_go(&bed, &reader, &entries[0]).await;
    let wait = Duration::from_millis(50);
    for member in [reader, bed.member("other").await] {
        let read = bed
            .log
            .read(&member, &NORMAL, Wait::WithReturned(wait))
            .await;
        assert!(read.unwrap().is_empty());
    }
    let claimed = claim(&bed, &bed.member("other").await).await;
    assert_eq!(
        (ids(&claimed), claimed[0].deliveries),
        (vec!["id-1".to_owned()], 1)
    );
}

#[tokio::test]
async fn on_redis_7_what_is_handed_back_waits_for_a_claim_and_charges_nothing_either() {
    let bed = on(RedisServer::shared().unwrap().url());
    let (reader, entries) = reader(&bed, &["1"]).await;
    hand_back(&bed, &reader, &entries).await;
    let other = bed.member("other").await;
    let wait = Duration::from_millis(50);
    let read = bed
        .log
        .read(&other, &NORMAL, Wait::WithReturned(wait))
        .await;
    assert!(read.unwrap().is_empty());
    assert_eq!(claim(&bed, &other).await[0].deliveries, 1);
}

#[tokio::test]
async fn only_the_owner_hands_back_and_a_claim_finds_it_beside_what_vanished() {
    let bed = bed().await;
    let (reader, entries) = reader(&bed, &["gone", "mine", "his"]).await;
    let other = bed.member("other").await;
    hand_back(&bed, &other, &entries).await;
    assert!(claim(&bed, &other).await.is_empty());
    hand_back(&bed, &reader, &entries[1..2]).await;
    // An entry that vanished makes the claim look at each.
    bed.sabotage.lose_entry(&bed.stream, entries[0].id).await;
    let claimed = claim(&bed, &other).await;
    assert_eq!(ids(&claimed), ["id-mine"]);
    assert_eq!(claimed[0].deliveries, 1);
}

#[tokio::test]
async fn a_read_passes_by_what_vanished_and_leaves_the_telling_to_the_claim() {
    let bed = bed().await;
    let (reader, entries) = reader(&bed, &["gone", "back"]).await;
    hand_back(&bed, &reader, &entries).await;
    bed.sabotage.lose_entry(&bed.stream, entries[0].id).await;
    let other = bed.member("other").await;
    let wait = Duration::from_secs(10);
    let read = bed
        .log
        .read(&other, &NORMAL, Wait::WithReturned(wait))
        .await;
    assert_eq!(ids(&read.unwrap()), ["id-back"]);
    let scope = ClaimScope::Idle(NEVER);
    let claimed = bed
        .log
        .claim(&other, Lane::Normal, EntryId::MIN, scope, 10)
        .await
        .unwrap();
    assert_eq!(claimed.vanished, [entries[0].id]);
}

#[tokio::test]
async fn a_user_that_may_not_run_the_new_command_hands_back_the_old_way() {
    let server = RedisServer::start(RedisOptions::redis_8()).unwrap();
    let user = [
        "ACL", "SETUSER", "bus", "on", ">pw", "~*", "+@all", "-xnack",
    ];
    server.command(&user).unwrap();
    let url = server.url().replace("redis://", "redis://bus:pw@");
    let valkey = Valkey::lazy(&Settings::new(&url)).unwrap();
    let bed = with(valkey.clone());
    let (reader, entries) = reader(&bed, &["1", "2"]).await;
    assert!(valkey.has(Ability::Nack).await);
    hand_back(&bed, &reader, &entries).await;
    assert!(!valkey.has(Ability::Nack).await, "it is not tried again");
    let claimed = claim(&bed, &bed.member("other").await).await;
    assert_eq!(ids(&claimed), ["id-1", "id-2"]);
    assert!(claimed.iter().all(|entry| entry.deliveries == 1));
}

#[tokio::test]
async fn an_older_server_that_takes_over_is_served_with_what_it_knows() {
    let mut server = RedisServer::start(RedisOptions::redis_8()).unwrap();
    let valkey = Valkey::lazy(&Settings::new(server.url())).unwrap();
    let log = Arc::new(RedisLog::new(valkey.clone()));
    let bed = on(&server.url());
    let sub = bed.member("a").await;
    let wait = Duration::from_millis(20);
    let read = log.read(&sub, &NORMAL, Wait::WithReturned(wait)).await;
    assert!(read.unwrap().is_empty());
    assert!(valkey.has(Ability::ReadClaim).await);
    server.replace(RedisOptions::default()).unwrap();
    let stream = sub.lanes.base().clone();
    let group = ["XGROUP", "CREATE", stream.as_str(), "g", "0", "MKSTREAM"];
    server.command(&group).unwrap();
    server
        .command(&["XADD", stream.as_str(), "*", "data", "1", "rb-id", "id-1"])
        .unwrap();
    // The connection was idle, so the first call may be the one that learns of its end.
    let mut read = log.read(&sub, &NORMAL, Wait::WithReturned(wait)).await;
    if matches!(read, Err(Error::Connection(_))) {
        read = log.read(&sub, &NORMAL, Wait::WithReturned(wait)).await;
    }
    let read = read.unwrap();
    assert_eq!(ids(&read), ["id-1"]);
    assert!(!valkey.has(Ability::ReadClaim).await);
    let bed = with(valkey.clone());
    hand_back(&bed, &sub, &read).await;
    let other = Subscription::new(sub.lanes.clone(), sub.group.clone(), ConsumerName::new("b"));
    assert_eq!(claim(&bed, &other).await[0].deliveries, 1);
}
