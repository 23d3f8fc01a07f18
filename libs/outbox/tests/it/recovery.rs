//! What a relay meets after a fault: leases of its own, a clock that was set back, rows that lie in the
//! wrong place; and what it tells of a broker that is away.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ratebox_db::{Db, Sql};
use ratebox_kit::Tasks;
use ratebox_outbox::{Event, Lack, Relay, RelaySettings, Router, Step};
use ratebox_testkit::wait_until;
use tracing::field::Field;
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};

use crate::broker::{FakeBroker, Mood};
use crate::databases::both;
use crate::relay::{add, held};

const PATIENCE: Duration = Duration::from_secs(20);

fn relay(db: &Db, broker: &Arc<FakeBroker>, settings: RelaySettings) -> Relay {
    Relay::new(db.clone(), broker.clone(), "r1", settings, Arc::default())
}

async fn number(db: &Db, sql: &'static str) -> i64 {
    let rows = db.query(Sql::both(sql)).await.unwrap();
    rows[0].get(0).unwrap()
}

/// Keeps what the log is told.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<String>>>);

impl Said {
    fn lines_with(&self, words: &str) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        let with = lines.iter().filter(|line| line.contains(words));
        with.cloned().collect()
    }
}

impl Subscriber for Said {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = String::new();
        event.record(&mut |field: &Field, value: &dyn Debug| {
            write!(line, "{field}={value:?} ").unwrap();
        });
        self.0.lock().unwrap().push(line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// In the database the leases have its name still: nobody waits for their end.
#[tokio::test]
async fn a_relay_goes_on_at_once_when_its_database_works_again() {
    for fresh in both().await {
        let said = Said::default();
        let _guard = tracing::subscriber::set_default(said.clone());
        let (broker, tasks) = (FakeBroker::new(Mood::Up), Tasks::new());
        let settings = RelaySettings {
            lease: Duration::from_secs(3600),
            ..RelaySettings::default()
        };
        let relay = relay(&fresh.db, &broker, settings);
        tasks.spawn("relay", relay.run(tasks.shutdown()));
        add(&fresh.db, vec![Event::new("t", "first")]).await;
        wait_until(PATIENCE, "the first event leaves", || async {
            !broker.bodies().is_empty() && Relay::pending(&fresh.db).await.unwrap() == 0
        })
        .await;
        let rename = async |from: &str, to: &str| {
            let rename = format!("ALTER TABLE {from} RENAME TO {to}");
            fresh.db.script(rename).await.unwrap();
        };
        rename("outbox", "outbox_away").await;
        wait_until(PATIENCE, "the relay fails", || async {
            !said.lines_with("could not work").is_empty()
        })
        .await;
        rename("outbox_away", "outbox").await;
        add(&fresh.db, vec![Event::new("t", "second")]).await;
        wait_until(PATIENCE, "the second event leaves", || async {
            broker.bodies() == ["first", "second"]
        })
        .await;
        assert_eq!(held(&fresh.db).await, [("r1".to_owned(), 16)]);
        assert_eq!(Relay::alive(&fresh.db).await.unwrap(), 1, "{}", fresh.name);
        tasks.join(Duration::from_secs(5)).await;
    }
}

/// The database's clock was ahead when they were added.
#[tokio::test]
async fn events_of_a_time_that_has_yet_to_come_do_not_wait_for_it() {
    for fresh in both().await {
        let delay = Duration::from_secs(60);
        let events = vec![
            Event::new("t", "plain"),
            Event::new("t", "ordered").ordered_by("k"),
            Event::new("t", "delayed").deliver_after(delay),
        ];
        add(&fresh.db, events).await;
        let hour = match fresh.name {
            "SQLite" => "3600000000",
            _ => "interval '1 hour'",
        };
        let ahead = format!("UPDATE outbox SET available_at = available_at + {hour}");
        fresh.db.script(ahead).await.unwrap();
        let broker = FakeBroker::new(Mood::Up);
        let mut relay = relay(&fresh.db, &broker, RelaySettings::default());
        assert_eq!(relay.step().await.unwrap(), Step::Did(2), "{}", fresh.name);
        let mut bodies = broker.bodies();
        bodies.sort();
        assert_eq!(bodies, ["ordered", "plain"], "{}", fresh.name);
        assert_eq!(relay.step().await.unwrap(), Step::Idle, "{}", fresh.name);
    }
}

#[tokio::test]
async fn of_a_row_that_killed_its_relay_no_neighbour_is_buried() {
    for fresh in both().await {
        let events = (0..3).map(|n| Event::new("t", n.to_string()));
        add(&fresh.db, events.collect()).await;
        assert_eq!(number(&fresh.db, "SELECT count(*) FROM outbox").await, 1);
        let died = "UPDATE outbox SET started = 1".to_owned();
        fresh.db.script(died).await.unwrap();
        let broker = FakeBroker::new(Mood::Up);
        let settings = RelaySettings {
            attempts_max: 1,
            ..RelaySettings::default()
        };
        let mut relay = relay(&fresh.db, &broker, settings);
        for _ in 0..2 {
            relay.step().await.unwrap();
        }
        let mut bodies = broker.bodies();
        bodies.sort();
        assert_eq!(bodies, ["0", "1", "2"], "{}", fresh.name);
        let dead = number(&fresh.db, "SELECT count(*) FROM outbox_dead").await;
        assert_eq!(dead, 0, "{}", fresh.name);
    }
}

#[tokio::test]
async fn an_event_that_lies_among_others_goes_to_the_partitions_of_its_broker() {
    for fresh in both().await {
        // Their sender knows of one broker only.
        let events = [("kafka:orders", "far"), ("t", "near")];
        let events = events.map(|(topic, body)| Event::new(topic, body).ordered_by("k"));
        add(&fresh.db, events.to_vec()).await;
        let (home, other) = (FakeBroker::new(Mood::Up), FakeBroker::new(Mood::Down));
        let router = Arc::new(Router::new(home.clone()).with("kafka", other.clone()));
        let settings = RelaySettings::default();
        let mut relay = Relay::new(fresh.db.clone(), router, "r1", settings, Arc::default());
        for _ in 0..2 {
            relay.step().await.unwrap();
        }
        assert_eq!(home.bodies(), ["near"], "{}", fresh.name);
        let moved = "SELECT count(*) FROM outbox WHERE partition > 15";
        assert_eq!(number(&fresh.db, moved).await, 1, "{}", fresh.name);
        other.turn(Mood::Up);
        relay.step().await.unwrap();
        let got: Vec<String> = other.got().into_iter().map(|it| it.topic).collect();
        assert_eq!(got, ["orders"], "{}", fresh.name);
        assert_eq!(Relay::pending(&fresh.db).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn the_log_is_told_once_why_nothing_leaves_and_when_it_does_again() {
    for fresh in both().await {
        let said = Said::default();
        let _guard = tracing::subscriber::set_default(said.clone());
        add(&fresh.db, vec![Event::new("t", "x")]).await;
        let broker = FakeBroker::new(Mood::Down);
        let mut relay = relay(&fresh.db, &broker, RelaySettings::default());
        for _ in 0..3 {
            assert_eq!(relay.step().await.unwrap(), Step::Down, "{}", fresh.name);
        }
        let away = said.lines_with("takes nothing");
        assert_eq!(away.len(), 1, "{away:?}");
        assert!(away[0].contains("on purpose"), "{away:?}");
        broker.turn(Mood::Up);
        assert_eq!(relay.step().await.unwrap(), Step::Did(1), "{}", fresh.name);
        assert_eq!(said.lines_with("takes events again").len(), 1);
    }
}

#[tokio::test]
async fn a_relay_tells_what_it_lacks_until_it_has_it_again_and_the_log_once() {
    for fresh in both().await {
        let said = Said::default();
        let _guard = tracing::subscriber::set_default(said.clone());
        let (broker, tasks) = (FakeBroker::new(Mood::Down), Tasks::new());
        let relay = relay(&fresh.db, &broker, RelaySettings::default());
        let health = relay.health();
        assert_eq!(health.lacks(), None, "{}", fresh.name);
        tasks.spawn("relay", relay.run(tasks.shutdown()));
        add(&fresh.db, vec![Event::new("t", "x")]).await;
        let lacks = async |lack: Option<Lack>| {
            let what = format!("{}: {lack:?}", fresh.name);
            wait_until(PATIENCE, &what, || async { health.lacks() == lack }).await;
        };
        lacks(Some(Lack::Broker)).await;
        assert_eq!(said.lines_with("takes nothing").len(), 1);
        broker.turn(Mood::Up);
        lacks(None).await;
        assert_eq!(broker.bodies(), ["x"]);
        let rename = async |from: &str, to: &str| {
            let rename = format!("ALTER TABLE {from} RENAME TO {to}");
            fresh.db.script(rename).await.unwrap();
        };
        rename("outbox", "outbox_away").await;
        lacks(Some(Lack::Database)).await;
        assert_eq!(said.lines_with("could not work").len(), 1);
        rename("outbox_away", "outbox").await;
        lacks(None).await;
        assert_eq!(said.lines_with("works again").len(), 1);
        tasks.join(Duration::from_secs(5)).await;
    }
}

/// SQLite keeps whatever it is given; PostgreSQL would have refused it.
#[tokio::test]
async fn a_row_whose_key_cannot_be_read_stops_no_other() {
    let fresh = both().await.remove(0);
    let foreign = "INSERT INTO outbox (partition, id, topic, body, available_at)
        VALUES (0, 'no uuid', 't', x'01', 0)";
    fresh.db.script(foreign.to_owned()).await.unwrap();
    add(&fresh.db, vec![Event::new("t", "good")]).await;
    let broker = FakeBroker::new(Mood::Up);
    let mut relay = relay(&fresh.db, &broker, RelaySettings::default());
    assert_eq!(relay.step().await.unwrap(), Step::Did(1));
    assert_eq!(relay.step().await.unwrap(), Step::Idle);
    assert_eq!(broker.bodies(), ["good"]);
}
