//! What breaks around an outbox: brokers, the database, relays. On real servers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ratebox_db::{Db, Leases, Sql, migrate};
use ratebox_kit::{Backoff, Stopwatch, Tasks};
use ratebox_outbox::{
    Effect, Event, Inboxes, MIGRATIONS, OWNER, Outbox, OutboxAdmin, Outcome, Relay, RelaySettings,
    Settings,
};
use ratebox_testkit::{PostgresServer, RedisOptions, RedisServer, TcpProxy, wait_for, wait_until};

use crate::broker::{FakeBroker, Mood};
use crate::databases::{both, scratch};
use crate::handling::{charge, charges, order, with_charges};
use crate::relay::add;
use crate::streams::RedisStreams;

/// Brief waits between tries, three of them.
fn quick() -> RelaySettings {
    RelaySettings {
        attempts_max: 3,
        lease: Duration::from_secs(2),
        backoff: Backoff {
            first: Duration::from_millis(1),
            max: Duration::from_millis(2),
        },
        ..RelaySettings::default()
    }
}

async fn number(db: &Db, sql: &'static str) -> i64 {
    let rows = db.query(Sql::both(sql)).await.unwrap();
    rows[0].get(0).unwrap()
}

/// Events whose first entry came after a later one of their key, and how many entries there are of
/// how many events.
pub(crate) fn judged(entries: &[[String; 3]]) -> (usize, usize, usize) {
    let (mut seen, mut last) = (HashSet::new(), HashMap::<&str, &str>::new());
    let mut inversions = 0;
    for [id, _, key] in entries {
        if !seen.insert(id.as_str()) || key.is_empty() {
            continue;
        }
        let before = last.insert(key, id);
        inversions += usize::from(before.is_some_and(|it| it > id.as_str()));
    }
    (inversions, entries.len(), seen.len())
}

/// How long the broker is away unless `RATEBOX_TEST_OUTAGE_S` says otherwise.
const OUTAGE_S: u64 = 30;

#[tokio::test]
async fn an_outage_of_30_s_with_100_000_waiting_events_kills_none_and_all_leave_within_a_minute() {
    let fresh = both().await.remove(1);
    let mut redis = RedisServer::start(RedisOptions::default()).unwrap();
    let streams = Arc::new(RedisStreams::at(redis.port()));
    let tasks = Tasks::new();
    let settings = RelaySettings::default();
    let relay = Relay::new(
        fresh.db.clone(),
        streams.clone(),
        "r1",
        settings,
        Arc::default(),
    );
    redis.kill9();
    let seconds = std::env::var("RATEBOX_TEST_OUTAGE_S").ok();
    let seconds = seconds.map_or(OUTAGE_S, |it| it.parse().unwrap());
    let outage = Stopwatch::start();
    tasks.spawn("relay", relay.run(tasks.shutdown()));
    for part in 0..20 {
        let event =
            |n: u32| Event::new("t", format!("{n}")).aggregate("order", (part * 5000 + n) % 500);
        add(&fresh.db, (0..5000).map(event).collect()).await;
    }
    let rest = Duration::from_secs(seconds).saturating_sub(outage.elapsed());
    tokio::time::sleep(rest).await;
    let charged = number(&fresh.db, "SELECT sum(attempts) FROM outbox").await;
    assert_eq!(charged, 0, "an outage is charged to nobody");
    assert_eq!(Relay::pending(&fresh.db).await.unwrap(), 100_000);
    redis.restart().unwrap();
    let drain = Stopwatch::start();
    wait_until(Duration::from_secs(60), "everything to be sent", || async {
        number(&fresh.db, "SELECT count(*) FROM outbox").await == 0
    })
    .await;
    eprintln!("100,000 events left within {:?}", drain.elapsed());
    let status = OutboxAdmin::new(fresh.db.clone()).status().await.unwrap();
    assert_eq!((status.pending, status.dead_letter), (0, 0));
    assert_eq!(
        judged(&streams.entries("t")),
        (0, 100_000, 100_000),
        "in order, once each"
    );
    tasks.join(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_broker_that_is_slow_half_open_or_full_delays_events_and_loses_none() {
    let fresh = both().await.remove(1);
    let redis = RedisServer::start(RedisOptions::default()).unwrap();
    let proxy = TcpProxy::to(redis.port()).unwrap();
    let streams = Arc::new(RedisStreams::at(proxy.port()));
    let direct = RedisStreams::at(redis.port());
    let tasks = Tasks::new();
    let relay = Relay::new(
        fresh.db.clone(),
        streams.clone(),
        "r1",
        quick(),
        Arc::default(),
    );
    tasks.spawn("relay", relay.run(tasks.shutdown()));
    let send = async |prefix: &str| {
        let events = (0..200).map(|n| Event::new("t", format!("{prefix}{n}")).ordered_by("k"));
        add(&fresh.db, events.collect()).await;
    };
    let is_empty = || async { Relay::pending(&fresh.db).await.unwrap() == 0 };
    proxy.delay(Duration::from_millis(5));
    send("slow").await;
    wait_until(Duration::from_secs(30), "the slow ones", is_empty).await;
    proxy.black_hole();
    send("half-open").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!is_empty().await);
    proxy.cut_once();
    proxy.resume();
    wait_until(Duration::from_secs(30), "those of the half-open", is_empty).await;
    let set = |limit: &'static str| vec!["CONFIG", "SET", "maxmemory", limit];
    for answer in direct.call(&[
        set("1"),
        vec!["CONFIG", "SET", "maxmemory-policy", "noeviction"],
    ]) {
        answer.unwrap();
    }
    send("full").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!is_empty().await, "a full broker takes nothing");
    direct.call(&[set("0")]).remove(0).unwrap();
    wait_until(Duration::from_secs(30), "those of the full", is_empty).await;
    let (inversions, _, events) = judged(&direct.entries("t"));
    assert_eq!((inversions, events), (0, 600));
    assert_eq!(
        number(&fresh.db, "SELECT count(*) FROM outbox_dead").await,
        0
    );
    tasks.join(Duration::from_secs(5)).await;
}

/// A server of one's own that can be killed, with the tables.
pub(crate) async fn postgres() -> (PostgresServer, Db) {
    let server = PostgresServer::start().unwrap();
    let db = scratch::open(&server.dsn());
    migrate(&db, Leases::OWNER, Leases::MIGRATIONS)
        .await
        .unwrap();
    migrate(&db, OWNER, MIGRATIONS).await.unwrap();
    (server, db)
}

#[tokio::test]
async fn a_database_that_restarts_in_mid_claim_loses_no_event_and_charges_nobody() {
    let (server, db) = postgres().await;
    let server = Arc::new(tokio::sync::Mutex::new(server));
    let event = |n: u32| Event::new("t", format!("{n}")).aggregate("order", n % 10);
    add(&db, (0..1000).map(event).collect()).await;
    let broker = FakeBroker::new(Mood::Up);
    let tasks = Tasks::new();
    // The relay has read its events and holds its partitions when the database dies.
    let victim = server.clone();
    broker.before_next(Box::pin(async move {
        let mut server = victim.lock_owned().await;
        let killing = tokio::task::spawn_blocking(move || {
            server.kill9();
            server.restart().unwrap();
        });
        killing.await.unwrap();
    }));
    let relay = Relay::new(db.clone(), broker.clone(), "r1", quick(), Arc::default());
    tasks.spawn("relay", relay.run(tasks.shutdown()));
    wait_until(Duration::from_secs(60), "everything to be sent", || async {
        Relay::pending(&db).await.is_ok_and(|it| it == 0)
    })
    .await;
    let mut ids = broker.ids();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 1000, "every event");
    assert!(
        broker.ids().len() <= 1020,
        "and hardly one twice: {}",
        broker.ids().len()
    );
    let status = OutboxAdmin::new(db.clone()).status().await.unwrap();
    assert_eq!((status.failing, status.dead_letter), (0, 0));
    tasks.join(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_database_that_dies_under_a_handler_leaves_one_effect_after_the_next_delivery() {
    let (server, db) = postgres().await;
    with_charges(&db).await;
    let server = std::sync::Mutex::new(server);
    let (consumer, message) = (Inboxes::new(db.clone()).consumer("billing"), order(4));
    let dies = async |work: &mut Effect, order| {
        let charged = charge(work, order).await?;
        let mut server = server.lock().unwrap();
        server.kill9();
        server.restart().unwrap();
        Ok(charged)
    };
    let error = consumer.handle(&message, dies).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert_eq!(charges(&db).await, 0);
    let again = || async {
        let again = message.clone().delivered(2);
        consumer.handle(&again, charge).await.ok()
    };
    let handled = wait_for(Duration::from_secs(20), "the effect", again).await;
    assert_eq!(handled.outcome, Outcome::Processed(4));
    assert_eq!(charges(&db).await, 1);
    assert_eq!(number(&db, "SELECT count(*) FROM inbox_attempts").await, 0);
}

/// The other end of [`a_relay_that_is_stopped_beyond_its_lease_finds_itself_fenced`].
#[tokio::test]
async fn child_that_stands_still_while_it_publishes() {
    let Ok(place) = std::env::var("RATEBOX_TEST_STANDS_STILL") else {
        return;
    };
    let broker = FakeBroker::new(Mood::Picky);
    broker.before_next(Box::pin(async {
        let own = std::process::id().to_string();
        let stop = std::process::Command::new("kill")
            .args(["-STOP", &own])
            .status();
        assert!(stop.unwrap().success());
    }));
    let mut relay = Relay::new(
        scratch::open(&place),
        broker.clone(),
        "sleeper",
        quick(),
        Arc::default(),
    );
    relay.step().await.unwrap();
    assert_eq!(broker.bodies(), ["good"], "it had them in hand");
}

#[tokio::test]
async fn a_relay_that_is_stopped_beyond_its_lease_finds_itself_fenced() {
    let fresh = both().await.remove(1);
    let events = ["good", "bad"].map(|body| Event::new("t", body).ordered_by(body));
    add(&fresh.db, events.to_vec()).await;
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "faults::child_that_stands_still_while_it_publishes",
        ])
        .env("RATEBOX_TEST_STANDS_STILL", &fresh.place)
        .spawn()
        .unwrap();
    let stat = format!("/proc/{}/stat", child.id());
    wait_until(Duration::from_secs(20), "the sleeper", || async {
        std::fs::read_to_string(&stat).is_ok_and(|it| it.contains(") T "))
    })
    .await;
    let settings = RelaySettings {
        attempts_max: 1000,
        backoff: Backoff {
            first: Duration::from_secs(3600),
            max: Duration::from_secs(3600),
        },
        ..quick()
    };
    let broker = FakeBroker::new(Mood::Picky);
    let other = Relay::new(
        fresh.db.clone(),
        broker.clone(),
        "other",
        settings,
        Arc::default(),
    );
    let other = tokio::sync::Mutex::new(other);
    wait_until(Duration::from_secs(20), "the other relay", || async {
        other.lock().await.step().await.unwrap();
        number(&fresh.db, "SELECT coalesce(sum(attempts), 0) FROM outbox").await == 1
    })
    .await;
    assert_eq!(broker.bodies(), ["good"]);
    let row =
        "SELECT attempts::bigint * 1000000 + extract(epoch FROM available_at)::bigint % 1000000
        FROM outbox";
    let before = number(&fresh.db, row).await;
    let id = child.id().to_string();
    let woken = std::process::Command::new("kill")
        .args(["-CONT", &id])
        .status();
    assert!(woken.unwrap().success());
    assert!(
        child.wait().unwrap().success(),
        "it goes on and changes nothing"
    );
    assert_eq!(
        number(&fresh.db, row).await,
        before,
        "the row is the other's"
    );
}

#[tokio::test]
async fn a_sender_whose_database_dies_is_told_and_what_was_committed_is_sent() {
    let (mut server, db) = postgres().await;
    with_charges(&db).await;
    let broker = FakeBroker::new(Mood::Up);
    let tasks = Tasks::new();
    let settings = Settings {
        pre_lease: Duration::from_millis(600),
        ..Settings::default()
    };
    let outbox = Outbox::new(db.clone(), broker.clone(), settings, &tasks);
    let send = async |n: u32| -> ratebox_outbox::Result<String> {
        let event = Event::new("t", format!("{n}"));
        let id = event.id.to_string();
        let mut tx = db.begin().await?;
        let staged = outbox.add(&mut tx, event).await?;
        outbox.commit(tx, staged).await?;
        Ok(id)
    };
    let mut committed = vec![send(1).await.unwrap()];
    let event = Event::new("t", "never");
    let mut tx = db.begin().await.unwrap();
    let staged = outbox.add(&mut tx, event).await.unwrap();
    server.kill9();
    outbox.commit(tx, staged).await.unwrap_err();
    assert!(
        send(2).await.is_err(),
        "nothing is sent that was not committed"
    );
    server.restart().unwrap();
    let sent = || async { send(3).await.ok() };
    committed.push(wait_for(Duration::from_secs(20), "the database", sent).await);
    let relay = Relay::new(db.clone(), broker.clone(), "r1", quick(), outbox.wake());
    let relay = tokio::sync::Mutex::new(relay);
    wait_until(Duration::from_secs(20), "everything to go", || async {
        relay.lock().await.step().await.unwrap();
        Relay::pending(&db).await.unwrap() == 0
    })
    .await;
    let mut got = broker.ids();
    got.sort();
    got.dedup();
    committed.sort();
    assert_eq!(got, committed);
}
