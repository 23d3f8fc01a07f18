//! kill -9 at every step on the way of an event: senders and relays of one process over and over,
//! then consumers. A child process works until it meets its step and kills itself; the next one
//! goes on.

use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use ratebox_db::{Db, Sql};
use ratebox_kit::{Message, Tasks};
use ratebox_outbox::{
    Broker, Effect, Event, Failure, Inboxes, Outbox, OutboxAdmin, Outgoing, PublishError, Received,
    Relay, RelaySettings, Settings,
};
use ratebox_testkit::{RedisOptions, RedisServer, wait_until};
use serde::Deserialize;
use serde_json::Value;

use crate::databases::{both, scratch};
use crate::faults::judged;
use crate::relay::add;
use crate::streams::RedisStreams;

/// Events of a child that is not killed.
const A_LIFE: usize = 400;
const SENDERS: usize = 16;

/// Where a child dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Added,
    Committed,
    BeforeOptimisticSend,
    AfterOptimisticSend,
    BeforeRelay,
    AfterRelay,
    Received,
    InHandler,
    Settled,
    Acknowledged,
}

const SENDING: [Step; 6] = [
    Step::Added,
    Step::Committed,
    Step::BeforeOptimisticSend,
    Step::AfterOptimisticSend,
    Step::BeforeRelay,
    Step::AfterRelay,
];
const RECEIVING: [Step; 4] = [
    Step::Received,
    Step::InHandler,
    Step::Settled,
    Step::Acknowledged,
];

/// Kills its process when a step is met for the n-th time.
struct Fate {
    step: String,
    left: AtomicI64,
}

impl Fate {
    fn of_child() -> Arc<Self> {
        let told = |name: &str| std::env::var(name).unwrap();
        Arc::new(Self {
            step: told("RATEBOX_TEST_STEP"),
            left: told("RATEBOX_TEST_NTH").parse::<i64>().unwrap().into(),
        })
    }

    fn meet(&self, step: Step) {
        if format!("{step:?}") == self.step && self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            let own = std::process::id().to_string();
            let _ = Command::new("kill").args(["-9", &own]).status();
        }
    }
}

/// The broker as senders or relays see it.
struct Doomed(Arc<RedisStreams>, Arc<Fate>, [Step; 2]);

#[async_trait]
impl Broker for Doomed {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        self.1.meet(self.2[0]);
        let answers = self.0.publish(messages).await;
        self.1.meet(self.2[1]);
        answers
    }
}

/// This test binary again, as one of its tests.
fn child(test: &str, place: &str, port: u16, step: Step, nth: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env("RATEBOX_TEST_CRASHES", place)
        .env("RATEBOX_TEST_REDIS_PORT", port.to_string())
        .env("RATEBOX_TEST_STEP", format!("{step:?}"))
        .env("RATEBOX_TEST_NTH", nth.to_string())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

/// Where the child works, unless nobody asked for one.
fn place() -> Option<(Db, Arc<RedisStreams>)> {
    let place = std::env::var("RATEBOX_TEST_CRASHES").ok()?;
    let port = std::env::var("RATEBOX_TEST_REDIS_PORT").unwrap();
    let streams = RedisStreams::at(port.parse().unwrap());
    Some((scratch::open(&place), Arc::new(streams)))
}

const SALE: Sql = Sql {
    postgres: "INSERT INTO sales (event_id) VALUES ($1)",
    sqlite: "INSERT INTO sales (event_id) VALUES (?1)",
};

/// Senders and a relay. Every other sender leaves its events to the relay.
#[tokio::test]
async fn child_that_sends() {
    let Some((db, streams)) = place() else { return };
    let (fate, tasks) = (Fate::of_child(), Tasks::new());
    let doomed = |steps| Arc::new(Doomed(streams.clone(), fate.clone(), steps));
    let sending = doomed([Step::BeforeOptimisticSend, Step::AfterOptimisticSend]);
    let relaying = doomed([Step::BeforeRelay, Step::AfterRelay]);
    let settings = |optimistic| Settings {
        pre_lease: Duration::from_millis(400),
        optimistic_timeout: Duration::from_millis(200),
        optimistic,
        ..Settings::default()
    };
    let own = Outbox::new(db.clone(), sending.clone(), settings(true), &tasks);
    let left = Outbox::new(db.clone(), sending, settings(false), &tasks);
    let brief = RelaySettings {
        lease: Duration::from_millis(600),
        ..RelaySettings::default()
    };
    let relay = Relay::new(db.clone(), relaying, "relay", brief, left.wake());
    tasks.spawn("relay", relay.run(tasks.shutdown()));
    join_all((0..SENDERS).map(async |sender| {
        for n in 0..A_LIFE / SENDERS {
            let outbox = if sender % 2 == 0 { &own } else { &left };
            let key = format!("{sender}");
            let mut tx = db.begin().await.unwrap();
            outbox.lock(&mut tx, &key).await.unwrap();
            let event = Event::new("sales", "{}");
            // Every third one asks for no order.
            let event = if n % 3 == 0 {
                event
            } else {
                event.ordered_by(key)
            };
            tx.execute(SALE.with(vec![event.id.into()])).await.unwrap();
            let staged = outbox.add(&mut tx, event).await.unwrap();
            fate.meet(Step::Added);
            let proof = tx.commit().await.unwrap();
            fate.meet(Step::Committed);
            outbox.publish(staged, &proof).await;
        }
    }))
    .await;
    wait_until(Duration::from_secs(20), "the relay", || async {
        Relay::pending(&db).await.unwrap() == 0
    })
    .await;
    tasks.join(Duration::from_secs(5)).await;
}

async fn ids(db: &Db, sql: &'static str) -> Vec<String> {
    let rows = db.query(Sql::both(sql)).await.unwrap();
    let id = |row: &ratebox_db::Row| row.get::<uuid::Uuid>(0).unwrap().to_string();
    rows.iter().map(id).collect()
}

fn died(mut child: Child) -> bool {
    !child.wait().unwrap().success()
}

#[tokio::test]
async fn kill_9_at_every_step_of_10_000_events_loses_none_and_breaks_no_order() {
    for (fresh, goal) in both().await.into_iter().zip([2_000, 10_000]) {
        let redis = RedisServer::start(RedisOptions::default()).unwrap();
        let sales = "CREATE TABLE sales (event_id uuid)";
        fresh.db.script(sales.to_owned()).await.unwrap();
        let (mut deaths, mut count) = ([0; SENDING.len()], 0);
        for round in 0.. {
            let kind = round % SENDING.len();
            let nth = [150, 210, 30, 40, 1, 2][kind] + round % 4;
            let name = "crashes::child_that_sends";
            let child = child(name, &fresh.place, redis.port(), SENDING[kind], nth);
            deaths[kind] += usize::from(died(child));
            count = ids(&fresh.db, "SELECT event_id FROM sales").await.len();
            if count >= goal {
                break;
            }
        }
        eprintln!("{}: {count} events, deaths by step {deaths:?}", fresh.name);
        assert!(
            deaths.iter().all(|it| *it > 0),
            "{}: {deaths:?}",
            fresh.name
        );
        let streams = Arc::new(RedisStreams::at(redis.port()));
        let settings = RelaySettings::default();
        let relay = Relay::new(
            fresh.db.clone(),
            streams.clone(),
            "relay",
            settings,
            Arc::default(),
        );
        let relay = tokio::sync::Mutex::new(relay);
        wait_until(Duration::from_secs(30), "the rest to be sent", || async {
            relay.lock().await.step().await.unwrap();
            Relay::pending(&fresh.db).await.unwrap() == 0
        })
        .await;
        let entries = streams.entries("sales");
        let (inversions, all, events) = judged(&entries);
        eprintln!("{}: {} were sent again", fresh.name, all - events);
        let mut sent: Vec<String> = entries.into_iter().map(|it| it[0].clone()).collect();
        // What the last child asked for may have been committed after its death.
        let mut sold = ids(&fresh.db, "SELECT event_id FROM sales").await;
        assert_eq!((inversions, events), (0, sold.len()), "{}", fresh.name);
        for all in [&mut sent, &mut sold] {
            all.sort();
        }
        sent.dedup();
        assert!(
            sent == sold,
            "{}: what was committed, nothing else",
            fresh.name
        );
        assert!(
            ids(&fresh.db, "SELECT id FROM outbox_dead")
                .await
                .is_empty()
        );
    }
}

#[derive(Deserialize)]
struct Sale {
    id: uuid::Uuid,
}

/// A member of a consumer group.
#[tokio::test]
async fn child_that_receives() {
    let Some((db, streams)) = place() else { return };
    let fate = Fate::of_child();
    let consumer = Inboxes::new(db.clone()).consumer("billing");
    let effect = async |work: &mut Effect, sales: Vec<Sale>| -> Result<(), Failure> {
        for sale in sales {
            work.execute(SALE.with(vec![sale.id.into()])).await?;
        }
        fate.meet(Step::InHandler);
        Ok(())
    };
    loop {
        let taken = take(&streams);
        if taken.is_empty() {
            return;
        }
        fate.meet(Step::Received);
        // Half of them together, the others each for itself.
        let (batch, single) = taken.split_at(taken.len() / 2);
        let received: Vec<Received> = batch.iter().map(|it| it.1.clone()).collect();
        for handled in consumer.handle_batch(&received, effect).await {
            handled.unwrap();
        }
        fate.meet(Step::Settled);
        let one = async |work: &mut Effect, sale: Sale| effect(work, vec![sale]).await;
        let handled = single.iter().map(|it| consumer.handle(&it.1, one));
        for handled in join_all(handled).await {
            handled.unwrap();
            fate.meet(Step::Settled);
        }
        for (entry, _) in &taken {
            let ack = vec!["XACK", "sales", "g", entry];
            streams.call(&[ack]).remove(0).unwrap();
            fate.meet(Step::Acknowledged);
        }
    }
}

/// What a dead member held, and then what is new.
fn take(streams: &RedisStreams) -> Vec<(String, Received)> {
    let read = |from| {
        let words = "XREADGROUP GROUP g member COUNT 100 STREAMS sales";
        let words = words.split(' ').chain([from]).collect();
        let got = streams.call(&[words]).remove(0).unwrap();
        let entries = got.pointer("/0/1").and_then(Value::as_array).cloned();
        entries.unwrap_or_default()
    };
    let mut entries = read("0");
    if entries.is_empty() {
        entries = read(">");
    }
    let received = |entry: &Value| {
        let text = |path| entry.pointer(path).unwrap().as_str().unwrap().to_owned();
        let message = Message::new(text("/1/1"), format!("{{\"id\":\"{}\"}}", text("/1/1")));
        (text("/0"), Received::new("sales", message))
    };
    entries.iter().map(received).collect()
}

/// So many sales on a stream with a group, every tenth of them twice, and a table for their effects.
async fn sold(db: &Db, goal: usize) -> (RedisServer, Vec<Event>) {
    let redis = RedisServer::start(RedisOptions::default()).unwrap();
    let streams = Arc::new(RedisStreams::at(redis.port()));
    let sales = "CREATE TABLE sales (event_id uuid)";
    db.script(sales.to_owned()).await.unwrap();
    // Every tenth is on the stream twice already.
    let events: Vec<Event> = (0..goal).map(|_| Event::new("sales", "{}")).collect();
    let again = events.iter().step_by(10).cloned();
    add(db, events.clone()).await;
    let mut relay = Relay::new(
        db.clone(),
        streams.clone(),
        "relay",
        RelaySettings::default(),
        Arc::default(),
    );
    while Relay::pending(db).await.unwrap() > 0 {
        relay.step().await.unwrap();
    }
    add(db, again.collect()).await;
    relay.step().await.unwrap();
    let group = "XGROUP CREATE sales g 0".split(' ').collect();
    streams.call(&[group]).remove(0).unwrap();
    (redis, events)
}

#[tokio::test]
async fn kill_9_at_every_step_of_10_000_messages_loses_none_and_applies_none_twice() {
    for (fresh, goal) in both().await.into_iter().zip([2_000, 10_000]) {
        let (redis, events) = sold(&fresh.db, goal).await;
        let (mut deaths, mut round) = ([0; RECEIVING.len()], 0);
        loop {
            let kind = round % RECEIVING.len();
            let nth = [4, 70, 90, 330][kind] + round % 5;
            let name = "crashes::child_that_receives";
            let child = child(name, &fresh.place, redis.port(), RECEIVING[kind], nth);
            if !died(child) {
                break; // It found nothing more.
            }
            deaths[kind] += 1;
            round += 1;
        }
        let mut effects = ids(&fresh.db, "SELECT event_id FROM sales").await;
        eprintln!(
            "{}: {} effects, deaths by step {deaths:?}",
            fresh.name,
            effects.len()
        );
        assert!(
            deaths.iter().all(|it| *it > 0),
            "{}: {deaths:?}",
            fresh.name
        );
        let mut expected: Vec<String> = events.iter().map(|it| it.id.to_string()).collect();
        for all in [&mut effects, &mut expected] {
            all.sort();
        }
        assert!(effects == expected, "{}: each once", fresh.name);
    }
}

/// Both are the same member of the group, so each takes what the other holds.
#[tokio::test]
async fn two_processes_that_handle_the_same_messages_apply_none_twice() {
    for fresh in both().await {
        let (redis, events) = sold(&fresh.db, 2_000).await;
        let start = |_| {
            let (name, never) = ("crashes::child_that_receives", 1_000_000_000);
            child(name, &fresh.place, redis.port(), Step::Settled, never)
        };
        for mut child in [0, 1].map(start) {
            assert!(child.wait().unwrap().success(), "{}", fresh.name);
        }
        let mut effects = ids(&fresh.db, "SELECT event_id FROM sales").await;
        let mut expected: Vec<String> = events.iter().map(|it| it.id.to_string()).collect();
        for all in [&mut effects, &mut expected] {
            all.sort();
        }
        assert!(effects == expected, "{}: each once", fresh.name);
    }
}

/// A broker that takes its process with it when it sees a certain body.
struct Deadly(Arc<RedisStreams>);

#[async_trait]
impl Broker for Deadly {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        if messages.iter().any(|it| it.message.body == "deadly") {
            std::process::abort();
        }
        self.0.publish(messages).await
    }
}

/// A relay until nothing waits.
#[tokio::test]
async fn child_that_relays_what_kills_it() {
    let Some((db, streams)) = place() else { return };
    let settings = RelaySettings {
        lease: Duration::from_millis(300),
        attempts_max: 4,
        ..RelaySettings::default()
    };
    let broker = Arc::new(Deadly(streams));
    let relay = Relay::new(db.clone(), broker, "relay", settings, Arc::default());
    let relay = tokio::sync::Mutex::new(relay);
    wait_until(Duration::from_secs(20), "everything to go", || async {
        relay.lock().await.step().await.unwrap();
        Relay::pending(&db).await.unwrap() == 0
    })
    .await;
}

#[tokio::test]
async fn an_event_that_kills_its_relay_is_given_up_and_its_neighbours_are_sent() {
    for fresh in both().await {
        let redis = RedisServer::start(RedisOptions::default()).unwrap();
        // One that shares its row with others, and one with a key.
        let mut events: Vec<Event> = (0..50).map(|n| Event::new("t", format!("{n}"))).collect();
        events.insert(20, Event::new("t", "deadly"));
        events.insert(30, Event::new("t", "deadly").ordered_by("k"));
        events.push(Event::new("t", "after").ordered_by("k"));
        add(&fresh.db, events).await;
        let mut lives = 0;
        let run = || {
            let name = "crashes::child_that_relays_what_kills_it";
            child(name, &fresh.place, redis.port(), Step::Added, 1_000_000)
        };
        while died(run()) {
            lives += 1;
            assert!(lives < 20, "{}", fresh.name);
        }
        eprintln!("{}: {lives} relays died", fresh.name);
        let dead = OutboxAdmin::new(fresh.db.clone()).dead(10).await.unwrap();
        assert_eq!(dead.len(), 2, "{}", fresh.name);
        for it in dead {
            assert_eq!(it.event.body, "deadly");
            let why = it.last_error.unwrap();
            assert!(why.contains("ended with its process"), "{why}");
        }
        let entries = RedisStreams::at(redis.port()).entries("t");
        let mut sent: Vec<String> = entries.into_iter().map(|it| it[1].clone()).collect();
        sent.sort();
        sent.dedup();
        assert_eq!(sent.len(), 51, "{}: {sent:?}", fresh.name);
    }
}

#[tokio::test]
async fn a_broker_that_is_away_at_every_start_is_no_death() {
    for fresh in both().await {
        add(&fresh.db, vec![Event::new("t", "x")]).await;
        let broker = crate::broker::FakeBroker::new(crate::broker::Mood::Down);
        let settings = RelaySettings {
            lease: Duration::from_millis(50),
            ..RelaySettings::default()
        };
        for life in 0..12 {
            let (holder, broker) = (format!("r{life}"), broker.clone());
            let (db, settings) = (fresh.db.clone(), settings.clone());
            let relay = Relay::new(db, broker, &holder, settings, Arc::default());
            let relay = tokio::sync::Mutex::new(relay);
            wait_until(Duration::from_secs(5), "the leases", || async {
                relay.lock().await.step().await.unwrap() == ratebox_outbox::Step::Down
            })
            .await;
        }
        broker.turn(crate::broker::Mood::Up);
        let relay = Relay::new(
            fresh.db.clone(),
            broker.clone(),
            "r",
            settings,
            Arc::default(),
        );
        let relay = tokio::sync::Mutex::new(relay);
        wait_until(Duration::from_secs(5), "the event", || async {
            relay.lock().await.step().await.unwrap();
            broker.ids().len() == 1
        })
        .await;
        let dead = OutboxAdmin::new(fresh.db.clone()).dead(10).await.unwrap();
        assert!(dead.is_empty(), "{}", fresh.name);
    }
}
