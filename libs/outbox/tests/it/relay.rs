//! The relay.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ratebox_db::{Db, Sql};
use ratebox_kit::{Backoff, Tasks};
use ratebox_outbox::{Event, Outbox, Relay, RelaySettings, Settings, Step};
use ratebox_testkit::wait_until;

use crate::broker::{FakeBroker, Mood};
use crate::databases::both;

/// Adds events whose sender dies right after the commit.
pub(crate) async fn add(db: &Db, events: Vec<Event>) {
    let settings = Settings {
        pre_lease: Duration::ZERO,
        ..Settings::default()
    };
    let outbox = Outbox::new(
        db.clone(),
        FakeBroker::new(Mood::Down),
        settings,
        &Tasks::new(),
    );
    let (statement, _staged) = outbox.stage(events).unwrap();
    db.run(vec![statement]).await.unwrap();
}

fn relay(db: &Db, broker: &Arc<FakeBroker>, holder: &str) -> Relay {
    let backoff = Backoff {
        first: Duration::from_millis(1),
        max: Duration::from_millis(2),
    };
    let settings = RelaySettings {
        backoff,
        attempts_max: 3,
        lease: Duration::from_secs(2),
        publish_timeout: Duration::from_millis(500),
        ..RelaySettings::default()
    };
    Relay::new(db.clone(), broker.clone(), holder, settings, Arc::default())
}

#[tokio::test]
async fn what_a_dead_sender_left_is_sent_in_id_order_within_a_key() {
    for fresh in both().await {
        let broker = FakeBroker::new(Mood::Up);
        let keys = ["a", "b", "c"];
        let events: Vec<Event> = (0..300)
            .map(|n| {
                let key = keys[n % 3];
                Event::new("t", format!("{key}{n}")).ordered_by(key)
            })
            .collect();
        let sent: HashMap<&str, Vec<String>> = keys
            .iter()
            .map(|key| {
                let of_key = events.iter().filter(|e| e.key.as_deref() == Some(key));
                (*key, of_key.map(|e| e.id.to_string()).collect())
            })
            .collect();
        for part in events.chunks(50) {
            add(&fresh.db, part.to_vec()).await;
        }
        let mut relay = relay(&fresh.db, &broker, "r1");
        while relay.step().await.unwrap() != Step::Idle {}
        let (ids, bodies) = (broker.ids(), broker.bodies());
        for key in keys {
            let got: Vec<String> = ids
                .iter()
                .zip(&bodies)
                .filter(|(_, body)| body.starts_with(key))
                .map(|(id, _)| id.clone())
                .collect();
            assert_eq!(got, sent[key], "{}", fresh.name);
        }
        assert_eq!(Relay::pending(&fresh.db).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_broker_outage_charges_nobody() {
    for fresh in both().await {
        add(
            &fresh.db,
            (0..20).map(|n| Event::new("t", n.to_string())).collect(),
        )
        .await;
        let broker = FakeBroker::new(Mood::Down);
        let mut relay = relay(&fresh.db, &broker, "r1");
        for _ in 0..20 {
            assert_eq!(relay.step().await.unwrap(), Step::Down, "{}", fresh.name);
        }
        broker.turn(Mood::Up);
        assert_eq!(relay.step().await.unwrap(), Step::Did(20), "{}", fresh.name);
        assert_eq!(Relay::pending(&fresh.db).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_refused_event_waits_alone_then_dies_and_frees_its_key() {
    for fresh in both().await {
        let events = vec![
            Event::new("t", "bad").ordered_by("k"),
            Event::new("t", "after bad").ordered_by("k"),
            Event::new("t", "other").ordered_by("l"),
            Event::new("t", "free"),
        ];
        add(&fresh.db, events).await;
        let broker = FakeBroker::new(Mood::Picky);
        let mut relay = relay(&fresh.db, &broker, "r1");
        relay.step().await.unwrap();
        let mut first = broker.bodies();
        first.sort();
        assert_eq!(first, ["free", "other"], "{}", fresh.name);
        for _ in 0..500 {
            relay.step().await.unwrap();
            if broker.bodies().len() == 3 {
                break;
            }
        }
        assert_eq!(
            broker.bodies().last().map(String::as_str),
            Some("after bad"),
            "{}",
            fresh.name
        );
    }
}

/// How many partitions each relay holds.
pub(crate) async fn held(db: &Db) -> Vec<(String, i64)> {
    let sql = Sql {
        postgres: "SELECT holder, count(*) FROM leases WHERE name LIKE 'outbox/%'
            AND ends_at > clock_timestamp() GROUP BY 1 ORDER BY 1",
        sqlite: "SELECT holder, count(*) FROM leases WHERE name LIKE 'outbox/%'
            AND ends_at > CAST(unixepoch('subsec') * 1000000 AS INTEGER) GROUP BY 1 ORDER BY 1",
    };
    let rows = db.query(sql).await.unwrap();
    let read = |row: &ratebox_db::Row| (row.get(0).unwrap(), row.get(1).unwrap());
    rows.iter().map(read).collect()
}

#[tokio::test]
async fn partitions_are_shared_out_over_the_relays_that_live() {
    for fresh in both().await {
        let broker = FakeBroker::new(Mood::Up);
        let mut relays: Vec<Relay> = Vec::new();
        relays.push(relay(&fresh.db, &broker, "r1"));
        relays[0].step().await.unwrap();
        assert_eq!(held(&fresh.db).await, [("r1".to_owned(), 16)]);
        relays.push(relay(&fresh.db, &broker, "r2"));
        relays.push(relay(&fresh.db, &broker, "r3"));
        let relays = tokio::sync::Mutex::new(relays);
        let fair = |expected: &'static [i64]| {
            let (db, relays) = (&fresh.db, &relays);
            wait_until(Duration::from_secs(20), "fair shares", move || async move {
                for relay in relays.lock().await.iter_mut() {
                    relay.step().await.unwrap();
                }
                let mut counts: Vec<i64> = held(db).await.into_iter().map(|it| it.1).collect();
                counts.sort_unstable();
                counts == expected
            })
        };
        fair(&[5, 5, 6]).await;
        assert_eq!(Relay::alive(&fresh.db).await.unwrap(), 3, "{}", fresh.name);
        // A dead relay renews nothing: the others share what it held.
        relays.lock().await.remove(0);
        fair(&[8, 8]).await;
        relays.lock().await.remove(0);
        fair(&[16]).await;
        add(&fresh.db, vec![Event::new("t", "x")]).await;
        let step = relays.lock().await[0].step().await.unwrap();
        assert_eq!(step, Step::Did(1), "{}", fresh.name);
    }
}

#[tokio::test]
async fn a_relay_that_slept_through_its_lease_changes_nothing() {
    for fresh in both().await {
        let broker = FakeBroker::new(Mood::Picky);
        let event = Event::new("t", "bad").ordered_by("k");
        add(&fresh.db, vec![event]).await;
        let mut sleeper = relay(&fresh.db, &broker, "r1");
        // While the broker thinks about it, the leases go to somebody else.
        let theft = "UPDATE leases SET holder = 'thief', epoch = epoch + 1
            WHERE name LIKE 'outbox/%'";
        let db = fresh.db.clone();
        broker.before_next(Box::pin(async move {
            db.script(theft.to_owned()).await.unwrap()
        }));
        sleeper.step().await.unwrap();
        let rows = fresh.db.query(Sql::both("SELECT attempts FROM outbox"));
        let attempts: i64 = rows.await.unwrap()[0].get(0).unwrap();
        assert_eq!(attempts, 0, "{}: the event is the new holder's", fresh.name);
    }
}

#[tokio::test]
async fn a_broker_that_answers_nothing_is_away_and_charges_nobody() {
    for fresh in both().await {
        let broker = FakeBroker::new(Mood::Silent);
        add(&fresh.db, vec![Event::new("t", "x")]).await;
        let mut relay = relay(&fresh.db, &broker, "r1");
        assert_eq!(relay.step().await.unwrap(), Step::Down, "{}", fresh.name);
        broker.turn(Mood::Up);
        assert_eq!(relay.step().await.unwrap(), Step::Did(1), "{}", fresh.name);
    }
}

#[tokio::test]
async fn a_sender_of_another_process_wakes_the_relay_at_once() {
    let fresh = both().await.remove(1);
    let (broker, tasks) = (FakeBroker::new(Mood::Up), Tasks::new());
    let settings = RelaySettings {
        poll: Duration::from_secs(3600),
        ..RelaySettings::default()
    };
    let relay = Relay::new(
        fresh.db.clone(),
        broker.clone(),
        "r1",
        settings,
        Arc::default(),
    );
    tasks.spawn("relay", relay.run(tasks.shutdown()));
    let off = Settings {
        optimistic: false,
        ..Settings::default()
    };
    let outbox = Outbox::new(fresh.db.clone(), broker.clone(), off, &tasks);
    // It looks ever more rarely; after a while only a bell can wake it.
    for n in 1..=12 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut tx = fresh.db.begin().await.unwrap();
        let staged = outbox.add(&mut tx, Event::new("t", "x")).await.unwrap();
        outbox.commit(tx, staged).await.unwrap();
        wait_until(Duration::from_secs(5), "the event", || async {
            broker.ids().len() == n
        })
        .await;
    }
}

#[tokio::test]
async fn an_ordered_event_is_the_relay_s_from_the_start() {
    for fresh in both().await {
        let broker = FakeBroker::new(Mood::Up);
        let outbox = Outbox::new(
            fresh.db.clone(),
            broker.clone(),
            Settings::default(),
            &Tasks::new(),
        );
        let (statement, _staged) = outbox
            .stage(vec![Event::new("t", "x").ordered_by("k")])
            .unwrap();
        fresh.db.run(vec![statement]).await.unwrap();
        let mut relay = relay(&fresh.db, &broker, "r1");
        assert_eq!(relay.step().await.unwrap(), Step::Did(1), "{}", fresh.name);
    }
}

#[tokio::test]
async fn a_pre_leased_row_is_left_to_its_sender() {
    for fresh in both().await {
        let broker = FakeBroker::new(Mood::Up);
        let outbox = Outbox::new(
            fresh.db.clone(),
            broker.clone(),
            Settings::default(),
            &Tasks::new(),
        );
        let (statement, _staged) = outbox.stage(vec![Event::new("t", "x")]).unwrap();
        fresh.db.run(vec![statement]).await.unwrap();
        let mut relay = relay(&fresh.db, &broker, "r1");
        assert_eq!(relay.step().await.unwrap(), Step::Idle, "{}", fresh.name);
    }
}

#[tokio::test]
async fn events_that_share_a_row_are_sent_each_for_itself_and_refused_ones_leave_it() {
    for fresh in both().await {
        let mut bodies: Vec<String> = (0..40).map(|n| format!("{n:0>300}")).collect();
        for bad in [0, 17] {
            bodies[bad] = format!("bad {}", bodies[bad]);
        }
        let events: Vec<Event> = bodies
            .iter()
            .map(|body| Event::new("t", body.clone()).with_header("rb-lane", "low"))
            .collect();
        let ids: Vec<String> = events.iter().map(|it| it.id.to_string()).collect();
        add(&fresh.db, events).await;
        let rows = fresh.db.query(Sql::both("SELECT count(*) FROM outbox"));
        assert!(
            rows.await.unwrap()[0].get::<i64>(0).unwrap() < 4,
            "{}",
            fresh.name
        );
        assert_eq!(Relay::pending(&fresh.db).await.unwrap(), 40);

        let broker = FakeBroker::new(Mood::Picky);
        let mut relay = relay(&fresh.db, &broker, "r1");
        assert_eq!(relay.step().await.unwrap(), Step::Did(38));
        // The refused ones alone are left, and die one by one.
        assert_eq!(Relay::pending(&fresh.db).await.unwrap(), 2);
        let relay = tokio::sync::Mutex::new(relay);
        wait_until(
            Duration::from_secs(10),
            "the refused events to die",
            || async {
                relay.lock().await.step().await.unwrap();
                Relay::pending(&fresh.db).await.unwrap() == 0
            },
        )
        .await;
        let mut got = broker.ids();
        got.sort();
        let mut expected = ids.clone();
        let dead = [expected.remove(17), expected.remove(0)];
        expected.sort();
        assert_eq!(got, expected, "{}: every other event once", fresh.name);
        let buried = fresh.db.query(Sql::both("SELECT id FROM outbox_dead"));
        let buried = buried.await.unwrap();
        assert_eq!(buried.len(), 2);
        for row in buried {
            let id = row.get::<uuid::Uuid>(0).unwrap().to_string();
            assert!(dead.contains(&id));
        }
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_stops_no_other() {
    for fresh in both().await {
        add(&fresh.db, vec![Event::new("t", "good")]).await;
        for (id, headers, events) in [("1", "'no json'", 1), ("2", "NULL", 2)] {
            let id = format!("0000000000007000800000000000000{id}");
            let (id, body, at) = if fresh.name == "SQLite" {
                (format!("x'{id}'"), "x'01'", "0")
            } else {
                (format!("'{id}'"), "'\\x01'", "now()")
            };
            let row = format!(
                "INSERT INTO outbox (partition, id, topic, headers, body, events, available_at)
                 VALUES (0, {id}, 't', {headers}, {body}, {events}, {at})"
            );
            fresh.db.script(row).await.unwrap();
        }
        let broker = FakeBroker::new(Mood::Up);
        let relay = tokio::sync::Mutex::new(relay(&fresh.db, &broker, "r1"));
        wait_until(
            Duration::from_secs(10),
            "the broken rows to die",
            || async {
                relay.lock().await.step().await.unwrap();
                Relay::pending(&fresh.db).await.unwrap() == 0
            },
        )
        .await;
        assert_eq!(broker.bodies(), ["good"], "{}", fresh.name);
        let dead = fresh
            .db
            .query(Sql::both("SELECT count(*) FROM outbox_dead"))
            .await
            .unwrap();
        assert_eq!(dead[0].get::<i64>(0).unwrap(), 2);
    }
}
