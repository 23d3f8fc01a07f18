//! Every known defect of the predecessor's outbox and inbox (SZ-01 … SZ-15), as a behaviour that
//! this crate has not: on PostgreSQL, SQLite and a real Redis.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ratebox_db::{Db, Sql};
use ratebox_kit::{Backoff, Tasks};
use ratebox_outbox::{
    Broker, Effect, Event, Failure, Inboxes, Outbox, OutboxAdmin, Outcome, Outgoing, PublishError,
    Relay, RelaySettings, Settings, Step,
};
use ratebox_testkit::{RedisOptions, RedisServer, unique_name, wait_until};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::broker::{FakeBroker, Mood};
use crate::databases::{both, scratch};
use crate::handling::{charge, charges, order, with_charges};
use crate::relay::add;

/// Streams of a real Redis, by plain commands.
#[derive(Clone)]
struct Streams(Arc<std::sync::Mutex<RedisServer>>);

impl Streams {
    fn start() -> Self {
        let redis = RedisServer::start(RedisOptions::default()).unwrap();
        Self(Arc::new(std::sync::Mutex::new(redis)))
    }

    /// Id and body of every entry.
    fn entries(&self, stream: &str) -> Vec<(String, String)> {
        let told = self
            .0
            .lock()
            .unwrap()
            .command(&["XRANGE", stream, "-", "+"])
            .unwrap();
        let text = |it: &Value| it.as_str().unwrap().to_owned();
        let read = |it: &Value| (text(&it[1][1]), text(&it[1][3]));
        told.as_array().unwrap().iter().map(read).collect()
    }
}

#[async_trait]
impl Broker for Streams {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let redis = self.0.lock().unwrap();
        let add = |it: Outgoing| {
            let body = String::from_utf8(it.message.body.to_vec()).unwrap();
            let words = [
                "XADD",
                &it.topic,
                "*",
                "rb-id",
                &it.message.id.0,
                "data",
                &body,
            ];
            let down = |error: anyhow::Error| PublishError::Down(error.to_string());
            redis.command(&words).map(drop).map_err(down)
        };
        messages.into_iter().map(add).collect()
    }
}

fn outbox(db: &Db, broker: Arc<dyn Broker>) -> Outbox {
    Outbox::new(db.clone(), broker, Settings::default(), &Tasks::new())
}

fn relay(db: &Db, broker: Arc<dyn Broker>, holder: &str) -> Relay {
    let settings = RelaySettings {
        attempts_max: 3,
        lease: Duration::from_secs(2),
        backoff: Backoff {
            first: Duration::from_millis(1),
            max: Duration::from_millis(2),
        },
        ..RelaySettings::default()
    };
    Relay::new(db.clone(), broker, holder, settings, Arc::default())
}

async fn send(db: &Db, outbox: &Outbox, event: Event) -> usize {
    let mut tx = db.begin().await.unwrap();
    let staged = outbox.add(&mut tx, event).await.unwrap();
    outbox.commit(tx, staged).await.unwrap().sent
}

async fn until_empty(db: &Db, relay: &Mutex<Relay>) {
    wait_until(Duration::from_secs(30), "everything to be sent", || async {
        let _ = relay.lock().await.step().await.unwrap();
        Relay::pending(db).await.unwrap() == 0
    })
    .await;
}

async fn number(db: &Db, sql: &'static str) -> i64 {
    let rows = db.query(Sql::both(sql)).await.unwrap();
    rows[0].get(0).unwrap()
}

#[tokio::test]
async fn sz_01_the_sender_publishes_right_after_its_commit() {
    let streams = Streams::start();
    for fresh in both().await {
        let (outbox, topic) = (
            outbox(&fresh.db, Arc::new(streams.clone())),
            unique_name("t"),
        );
        let event = Event::new(topic.as_str(), "body");
        let id = event.id.to_string();
        assert_eq!(send(&fresh.db, &outbox, event).await, 1, "{}", fresh.name);
        assert_eq!(
            streams.entries(&topic),
            [(id, "body".to_owned())],
            "{}",
            fresh.name
        );
    }
}

#[tokio::test]
async fn sz_02_sender_and_relay_do_not_both_publish_and_say_the_same() {
    let streams = Streams::start();
    for fresh in both().await {
        let (outbox, topic) = (
            outbox(&fresh.db, Arc::new(streams.clone())),
            unique_name("t"),
        );
        let relay = Mutex::new(relay(&fresh.db, Arc::new(streams.clone()), "r1"));
        for n in 0..50 {
            let event = Event::new(topic.as_str(), format!("{n}"));
            let sending = send(&fresh.db, &outbox, event);
            let relaying = async { relay.lock().await.step().await.unwrap() };
            tokio::join!(sending, relaying);
        }
        until_empty(&fresh.db, &relay).await;
        let bodies: Vec<String> = streams.entries(&topic).into_iter().map(|it| it.1).collect();
        let expected: Vec<String> = (0..50).map(|n| n.to_string()).collect();
        assert_eq!(bodies, expected, "{}", fresh.name);
    }
}

#[tokio::test]
async fn sz_03_a_broker_outage_kills_no_event() {
    for fresh in both().await {
        let streams = Streams::start();
        let topic = unique_name("t");
        add(
            &fresh.db,
            (0..100)
                .map(|n| Event::new(topic.as_str(), format!("{n}")))
                .collect(),
        )
        .await;
        let mut relay = relay(&fresh.db, Arc::new(streams.clone()), "r1");
        streams.0.lock().unwrap().kill9();
        for _ in 0..20 {
            assert_eq!(relay.step().await.unwrap(), Step::Down, "{}", fresh.name);
        }
        let charged = number(&fresh.db, "SELECT coalesce(max(attempts), 0) FROM outbox").await;
        assert_eq!(charged, 0, "{}", fresh.name);
        streams.0.lock().unwrap().restart().unwrap();
        until_empty(&fresh.db, &Mutex::new(relay)).await;
        assert_eq!(streams.entries(&topic).len(), 100);
        assert_eq!(
            number(&fresh.db, "SELECT count(*) FROM outbox_dead").await,
            0
        );
    }
}

/// The other end of the next test.
#[tokio::test]
async fn child_that_dies_between_commit_and_publication() {
    let Ok(place) = std::env::var("RATEBOX_TEST_DIES_AFTER_COMMIT") else {
        return;
    };
    let db = scratch::open(&place);
    let settings = Settings {
        pre_lease: Duration::from_millis(600),
        ..Settings::default()
    };
    let broker = FakeBroker::new(Mood::Up);
    let outbox = Outbox::new(db.clone(), broker, settings, &Tasks::new());
    let mut tx = db.begin().await.unwrap();
    let _staged = outbox.add(&mut tx, Event::new("t", "left")).await.unwrap();
    tx.commit().await.unwrap();
    std::process::abort();
}

#[tokio::test]
async fn sz_04_what_a_dead_sender_or_relay_held_is_sent_by_another() {
    for fresh in both().await {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let ended = child
            .args([
                "--exact",
                "predecessors::child_that_dies_between_commit_and_publication",
            ])
            .env("RATEBOX_TEST_DIES_AFTER_COMMIT", &fresh.place)
            .output()
            .unwrap();
        assert!(!ended.status.success());
        let broker = FakeBroker::new(Mood::Up);
        let relay = Mutex::new(relay(&fresh.db, broker.clone(), "r1"));
        until_empty(&fresh.db, &relay).await;
        assert_eq!(broker.bodies(), ["left"], "{}", fresh.name);
    }
}

#[tokio::test]
async fn sz_05_an_event_that_failed_before_a_crash_is_tried_again() {
    for fresh in both().await {
        let broker = FakeBroker::new(Mood::Picky);
        add(&fresh.db, vec![Event::new("t", "bad")]).await;
        let mut first = relay(&fresh.db, broker.clone(), "r1");
        first.step().await.unwrap();
        assert!(broker.bodies().is_empty());
        // A relay of that name comes back; nothing but the row knows of the failure.
        drop(first);
        broker.turn(Mood::Up);
        until_empty(
            &fresh.db,
            &Mutex::new(relay(&fresh.db, broker.clone(), "r1")),
        )
        .await;
        assert_eq!(broker.bodies(), ["bad"], "{}", fresh.name);
    }
}

#[tokio::test]
async fn sz_06_a_late_relay_overrides_no_new_owner() {
    for fresh in both().await {
        let broker = FakeBroker::new(Mood::Picky);
        add(&fresh.db, vec![Event::new("t", "bad")]).await;
        let mut late = relay(&fresh.db, broker.clone(), "late");
        let db = fresh.db.clone();
        let theft =
            "UPDATE leases SET holder = 'new', epoch = epoch + 1 WHERE name LIKE 'outbox/%'";
        broker.before_next(Box::pin(async move {
            db.script(theft.to_owned()).await.unwrap()
        }));
        late.step().await.unwrap();
        let attempts = number(&fresh.db, "SELECT max(attempts) FROM outbox").await;
        assert_eq!(attempts, 0, "{}", fresh.name);
    }
}

#[tokio::test]
async fn sz_07_a_callback_that_fails_changes_no_event() {
    for fresh in both().await {
        let broker = FakeBroker::new(Mood::Up);
        add(&fresh.db, vec![Event::new("t", "1"), Event::new("t", "2")]).await;
        let relay = relay(&fresh.db, broker.clone(), "r1");
        let relay = Mutex::new(relay.telling(|_| panic!("on purpose")));
        until_empty(&fresh.db, &relay).await;
        assert_eq!(broker.bodies().len(), 2, "{}", fresh.name);
        assert_eq!(
            number(&fresh.db, "SELECT count(*) FROM outbox_dead").await,
            0
        );
    }
}

#[tokio::test]
async fn sz_08_events_of_an_aggregate_keep_their_order() {
    let streams = Streams::start();
    for fresh in both().await {
        let topic = unique_name("t");
        let event = |n: usize| Event::new(topic.as_str(), format!("{n}")).aggregate("order", n % 7);
        add(&fresh.db, (0..700).map(event).collect()).await;
        let relay = Mutex::new(relay(&fresh.db, Arc::new(streams.clone()), "r1"));
        until_empty(&fresh.db, &relay).await;
        let numbers = streams
            .entries(&topic)
            .into_iter()
            .map(|it| it.1.parse().unwrap());
        let numbers: Vec<usize> = numbers.collect();
        assert_eq!(numbers.len(), 700);
        for aggregate in 0..7 {
            let of = numbers.iter().filter(|n| *n % 7 == aggregate);
            assert!(of.is_sorted(), "{}", fresh.name);
        }
    }
}

#[tokio::test]
async fn sz_09_routing_and_partition_keys_survive_the_database() {
    for fresh in both().await {
        let event = Event::new("t", "x")
            .routed_by("eu")
            .partitioned_by("customer-7");
        add(&fresh.db, vec![event]).await;
        let broker = FakeBroker::new(Mood::Up);
        relay(&fresh.db, broker.clone(), "r1").step().await.unwrap();
        let got = broker.got().remove(0);
        assert_eq!(got.routing_key.as_deref(), Some("eu"), "{}", fresh.name);
        assert_eq!(
            got.partition_key.as_deref(),
            Some("customer-7"),
            "{}",
            fresh.name
        );
    }
}

#[tokio::test]
async fn sz_10_a_handler_that_fails_loses_no_message() {
    for fresh in both().await {
        with_charges(&fresh.db).await;
        let (consumer, message) = (Inboxes::new(fresh.db.clone()).consumer("billing"), order(1));
        let fails = async |work: &mut Effect, order| -> Result<i64, Failure> {
            charge(work, order).await?;
            Err(Failure::retry("on purpose"))
        };
        consumer.handle(&message, fails).await.unwrap_err();
        for delivery in 2..4 {
            let again = message.clone().delivered(delivery);
            consumer.handle(&again, charge).await.unwrap();
        }
        assert_eq!(charges(&fresh.db).await, 1, "{}", fresh.name);
    }
}

#[tokio::test]
async fn sz_11_two_services_on_one_table_each_handle_every_message() {
    for fresh in both().await {
        with_charges(&fresh.db).await;
        let (inboxes, message) = (Inboxes::new(fresh.db.clone()), order(1));
        for name in ["billing", "shipping"] {
            let handled = inboxes
                .consumer(name)
                .handle(&message, charge)
                .await
                .unwrap();
            assert_eq!(handled.outcome, Outcome::Processed(1), "{}", fresh.name);
        }
    }
}

#[tokio::test]
async fn sz_12_a_duplicate_leaves_the_caller_s_transaction_whole() {
    for fresh in both().await {
        with_charges(&fresh.db).await;
        let inbox = ratebox_outbox::Inbox::new("billing", "t");
        let id = ratebox_kit::id::new();
        let mut tx = fresh.db.begin().await.unwrap();
        assert_eq!(inbox.mark(&mut tx, &[id]).await.unwrap().len(), 1);
        assert_eq!(inbox.mark(&mut tx, &[id]).await.unwrap().len(), 0);
        tx.execute(Sql::both("INSERT INTO charges VALUES (1)"))
            .await
            .unwrap();
        tx.commit().await.unwrap();
        assert_eq!(charges(&fresh.db).await, 1, "{}", fresh.name);
    }
}

#[tokio::test]
async fn sz_13_an_event_lives_and_dies_with_its_business_transaction() {
    for fresh in both().await {
        with_charges(&fresh.db).await;
        let outbox = outbox(&fresh.db, FakeBroker::new(Mood::Up));
        for keep in [false, true] {
            let mut tx = fresh.db.begin().await.unwrap();
            tx.execute(Sql::both("INSERT INTO charges VALUES (1)"))
                .await
                .unwrap();
            let staged = outbox.add(&mut tx, Event::new("t", "x")).await.unwrap();
            if keep {
                assert_eq!(outbox.commit(tx, staged).await.unwrap().sent, 1);
            } else {
                drop(tx);
                drop(staged);
            }
            assert_eq!(charges(&fresh.db).await, i64::from(keep), "{}", fresh.name);
        }
        // An insert that fails is told, and nothing is committed around it.
        let event = Event::new("t", "x");
        let mut tx = fresh.db.begin().await.unwrap();
        drop(outbox.add(&mut tx, event.clone()).await.unwrap());
        outbox.add(&mut tx, event).await.unwrap_err();
        tx.commit().await.unwrap_err();
    }
}

#[tokio::test]
async fn sz_14_a_long_backlog_reaches_redis_whole_and_what_waits_is_counted() {
    let streams = Streams::start();
    let fresh = both().await.remove(1);
    let topic = unique_name("t");
    // More than the 10,000 and 100,000 / 10 that the predecessor's streams kept.
    let events = (0..12_000).map(|n| Event::new(topic.as_str(), format!("{n}")));
    add(&fresh.db, events.collect()).await;
    assert_eq!(Relay::pending(&fresh.db).await.unwrap(), 12_000);
    let relay = Mutex::new(relay(&fresh.db, Arc::new(streams.clone()), "r1"));
    until_empty(&fresh.db, &relay).await;
    assert_eq!(streams.entries(&topic).len(), 12_000);
    let status = OutboxAdmin::new(fresh.db.clone()).status().await.unwrap();
    assert_eq!((status.pending, status.dead_letter), (0, 0));
}

#[tokio::test]
async fn sz_15_sqlite_counts_tries_keeps_the_error_and_compares_times_as_numbers() {
    let fresh = both().await.remove(0);
    let broker = FakeBroker::new(Mood::Picky);
    add(&fresh.db, vec![Event::new("t", "bad")]).await;
    let mut relay = relay(&fresh.db, broker, "r1");
    relay.step().await.unwrap();
    let rows = fresh.db.query(Sql::both(
        "SELECT attempts, last_error, typeof(available_at) FROM outbox",
    ));
    let rows = rows.await.unwrap();
    assert_eq!(rows[0].get::<i64>(0).unwrap(), 1);
    assert_eq!(rows[0].get::<String>(1).unwrap(), "on purpose");
    assert_eq!(rows[0].get::<String>(2).unwrap(), "integer");
    let relay = Mutex::new(relay);
    until_empty(&fresh.db, &relay).await;
    let dead = OutboxAdmin::new(fresh.db.clone()).dead(10).await.unwrap();
    assert_eq!((dead.len(), dead[0].attempts), (1, 3));
    assert_eq!(dead[0].last_error.as_deref(), Some("on purpose"));
}
