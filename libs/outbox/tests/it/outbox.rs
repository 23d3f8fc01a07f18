//! The sending half.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratebox_db::Db;
use ratebox_kit::Tasks;
use ratebox_outbox::{Event, Outbox, Published, Relay, Settings};
use ratebox_testkit::wait_until;

use crate::broker::{FakeBroker, Mood};
use crate::databases::both;

fn outbox(db: &Db, broker: &Arc<FakeBroker>) -> Outbox {
    let settings = Settings {
        optimistic_timeout: Duration::from_millis(100),
        ..Settings::default()
    };
    Outbox::new(db.clone(), broker.clone(), settings, &Tasks::new())
}

#[tokio::test]
async fn an_event_leaves_right_after_its_commit_and_its_row_goes() {
    for fresh in both().await {
        let broker = FakeBroker::new(Mood::Up);
        let outbox = outbox(&fresh.db, &broker);
        let event = Event::new("topic", "body").with_header("a", "b");
        let id = event.id.to_string();
        let mut tx = fresh.db.begin().await.unwrap();
        let staged = outbox.add(&mut tx, event).await.unwrap();
        assert!(broker.ids().is_empty());
        let proof = tx.commit().await.unwrap();
        let published = outbox.publish(staged, &proof).await;
        assert_eq!(published, Published { sent: 1, left: 0 }, "{}", fresh.name);
        assert_eq!(broker.ids(), [id]);
        wait_until(Duration::from_secs(5), "the row to go", || async {
            Relay::pending(&fresh.db).await.unwrap() == 0
        })
        .await;
    }
}

#[tokio::test]
async fn a_rolled_back_event_is_never_seen() {
    for fresh in both().await {
        let broker = FakeBroker::new(Mood::Up);
        let outbox = outbox(&fresh.db, &broker);
        let mut tx = fresh.db.begin().await.unwrap();
        let staged = outbox
            .add(&mut tx, Event::new("topic", "body"))
            .await
            .unwrap();
        tx.rollback().await.unwrap();
        drop(staged);
        assert_eq!(
            Relay::pending(&fresh.db).await.unwrap(),
            0,
            "{}",
            fresh.name
        );
    }
}

#[tokio::test]
async fn a_broker_that_is_away_or_silent_leaves_the_event_to_the_relay() {
    for fresh in both().await {
        for mood in [Mood::Down, Mood::Silent] {
            let broker = FakeBroker::new(mood);
            let outbox = outbox(&fresh.db, &broker);
            let (statement, staged) = outbox.stage(vec![Event::new("topic", "body")]).unwrap();
            let (_, proof) = fresh.db.run(vec![statement]).await.unwrap();
            let published = outbox.publish(staged, &proof).await;
            assert_eq!(
                published,
                Published { sent: 0, left: 1 },
                "{} {mood:?}",
                fresh.name
            );
        }
        assert_eq!(Relay::pending(&fresh.db).await.unwrap(), 2);
    }
}

#[tokio::test]
async fn the_commit_of_another_transaction_publishes_nothing() {
    for fresh in both().await {
        let broker = FakeBroker::new(Mood::Up);
        let outbox = outbox(&fresh.db, &broker);
        let mut given_up = fresh.db.begin().await.unwrap();
        let event = Event::new("topic", "never was");
        let staged = outbox.add(&mut given_up, event).await.unwrap();
        drop(given_up);
        let other = fresh.db.begin().await.unwrap();
        let proof = other.commit().await.unwrap();
        let published = outbox.publish(staged, &proof).await;
        assert_eq!(published, Published { sent: 0, left: 1 }, "{}", fresh.name);
        let mut first = fresh.db.begin().await.unwrap();
        let staged = outbox.add(&mut first, Event::new("topic", "1")).await;
        let proof = first.commit().await.unwrap();
        let mut given_up = fresh.db.begin().await.unwrap();
        let other = outbox.add(&mut given_up, Event::new("topic", "2")).await;
        drop(given_up);
        let both = staged.unwrap().and(other.unwrap());
        let published = outbox.publish(both, &proof).await;
        assert_eq!(published, Published { sent: 0, left: 2 }, "{}", fresh.name);
        assert!(broker.bodies().is_empty(), "{}", fresh.name);
    }
}

#[tokio::test]
async fn ordered_events_of_a_batch_are_left_to_the_relay() {
    for fresh in both().await {
        let broker = FakeBroker::new(Mood::Up);
        let outbox = outbox(&fresh.db, &broker);
        let events = vec![
            Event::new("t", "free"),
            Event::new("t", "ordered").ordered_by("k"),
        ];
        let (statement, staged) = outbox.stage(events).unwrap();
        let (_, proof) = fresh.db.run(vec![statement]).await.unwrap();
        let published = outbox.publish(staged, &proof).await;
        assert_eq!(published, Published { sent: 1, left: 1 }, "{}", fresh.name);
        assert_eq!(broker.bodies(), ["free"]);
    }
}

#[tokio::test]
async fn an_event_may_be_sent_at_once_only_when_no_older_one_of_its_key_is_left() {
    for fresh in both().await {
        let broker = FakeBroker::new(Mood::Up);
        let outbox = outbox(&fresh.db, &broker);
        let add = async |body: &'static str| {
            let mut tx = fresh.db.begin().await.unwrap();
            outbox.lock(&mut tx, "k").await.unwrap();
            let event = Event::new("t", body).ordered_by("k");
            let staged = outbox.add(&mut tx, event).await.unwrap();
            outbox.commit(tx, staged).await.unwrap()
        };
        assert_eq!(add("1").await, Published { sent: 1, left: 0 });
        wait_until(Duration::from_secs(5), "the row to go", || async {
            Relay::pending(&fresh.db).await.unwrap() == 0
        })
        .await;
        // The broker is away for the second: the third must not overtake it.
        broker.turn(Mood::Down);
        assert_eq!(add("2").await, Published { sent: 0, left: 1 });
        broker.turn(Mood::Up);
        assert_eq!(add("3").await, Published { sent: 0, left: 1 });
        let settings = ratebox_outbox::RelaySettings::default();
        let mut relay = Relay::new(
            fresh.db.clone(),
            broker.clone(),
            "r",
            settings,
            outbox.wake(),
        );
        // Nor may the relay send the third while the second is its sender's.
        assert_eq!(relay.step().await.unwrap(), ratebox_outbox::Step::Idle);
        fresh
            .db
            .script("UPDATE outbox SET pre_lease_ms = 0".to_owned())
            .await
            .unwrap();
        relay.step().await.unwrap();
        assert_eq!(broker.bodies(), ["1", "2", "3"], "{}", fresh.name);
    }
}

#[tokio::test]
async fn sender_and_relay_never_send_the_same_event_while_both_work() {
    for fresh in both().await {
        let broker = FakeBroker::new(Mood::Up);
        let outbox = outbox(&fresh.db, &broker);
        let settings = ratebox_outbox::RelaySettings::default();
        let relay = Relay::new(
            fresh.db.clone(),
            broker.clone(),
            "r",
            settings,
            outbox.wake(),
        );
        let relay = tokio::sync::Mutex::new(relay);
        let senders = (0..8).map(|sender| {
            let (db, outbox) = (fresh.db.clone(), outbox.clone());
            async move {
                for n in 0..25 {
                    let mut tx = db.begin().await.unwrap();
                    let mut event = Event::new("t", format!("{sender}-{n}"));
                    if n % 2 == 0 {
                        event = event.aggregate("order", sender);
                    }
                    let staged = outbox.add(&mut tx, event).await.unwrap();
                    outbox.commit(tx, staged).await.unwrap();
                }
            }
        });
        let is_over = AtomicBool::new(false);
        let sending = async {
            futures_util::future::join_all(senders).await;
            is_over.store(true, Ordering::SeqCst);
        };
        // No step is cut short: what it sent and could not note would be sent again, rightly.
        let relaying = async {
            while !is_over.load(Ordering::SeqCst) {
                relay.lock().await.step().await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(sending, relaying);
        wait_until(Duration::from_secs(10), "everything to go", || async {
            relay.lock().await.step().await.unwrap();
            Relay::pending(&fresh.db).await.unwrap() == 0
        })
        .await;
        let mut ids = broker.ids();
        assert_eq!(ids.len(), 200, "{}", fresh.name);
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 200, "{}", fresh.name);
        for sender in 0..8 {
            let prefix = format!("{sender}-");
            let of = |body: &String| body.strip_prefix(&prefix)?.parse::<u32>().ok();
            let order: Vec<u32> = broker.bodies().iter().filter_map(of).collect();
            let even: Vec<u32> = order.into_iter().filter(|n| n % 2 == 0).collect();
            assert!(even.is_sorted(), "{}: {even:?}", fresh.name);
        }
    }
}

#[tokio::test]
async fn a_delayed_event_waits_and_holds_up_nobody() {
    for fresh in both().await {
        let broker = FakeBroker::new(Mood::Up);
        let outbox = outbox(&fresh.db, &broker);
        let events = [
            Event::new("t", "later")
                .ordered_by("k")
                .deliver_after(Duration::from_secs(2)),
            Event::new("t", "now").ordered_by("k"),
            Event::new("t", "free later").deliver_after(Duration::from_secs(2)),
        ];
        for event in events {
            let mut tx = fresh.db.begin().await.unwrap();
            let staged = outbox.add(&mut tx, event).await.unwrap();
            let published = outbox.commit(tx, staged).await.unwrap();
            assert_eq!(published.sent, 0, "{}", fresh.name);
        }
        let settings = ratebox_outbox::RelaySettings::default();
        let relay = Relay::new(
            fresh.db.clone(),
            broker.clone(),
            "r",
            settings,
            outbox.wake(),
        );
        let relay = tokio::sync::Mutex::new(relay);
        relay.lock().await.step().await.unwrap();
        assert_eq!(broker.bodies(), ["now"], "{}", fresh.name);
        wait_until(Duration::from_secs(10), "the delayed ones", || async {
            relay.lock().await.step().await.unwrap();
            broker.bodies().len() == 3
        })
        .await;
    }
}

#[tokio::test]
async fn everything_that_is_told_of_an_event_reaches_the_broker_also_by_way_of_the_relay() {
    for fresh in both().await {
        let broker = FakeBroker::new(Mood::Up);
        let outbox = outbox(&fresh.db, &broker);
        let event = |n: u32| {
            Event::new("t", format!("{n}"))
                .aggregate("order", n)
                .of_type("order.created")
                .routed_by("orders.eu")
                .partitioned_by("customer-7")
                .traced("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        };
        let (statement, staged) = outbox.stage(vec![event(1), event(2)]).unwrap();
        fresh.db.run(vec![statement]).await.unwrap();
        drop(staged);
        let mut tx = fresh.db.begin().await.unwrap();
        let staged = outbox.add(&mut tx, event(3)).await.unwrap();
        outbox.commit(tx, staged).await.unwrap();
        let settings = ratebox_outbox::RelaySettings::default();
        let mut relay = Relay::new(
            fresh.db.clone(),
            broker.clone(),
            "r",
            settings,
            outbox.wake(),
        );
        relay.step().await.unwrap();
        let got = broker.got();
        assert_eq!(got.len(), 3, "{}", fresh.name);
        for it in got {
            assert_eq!(it.routing_key.as_deref(), Some("orders.eu"));
            assert_eq!(it.partition_key.as_deref(), Some("customer-7"));
            let id = String::from_utf8(it.message.body.to_vec()).unwrap();
            assert_eq!(it.key, Some(format!("order/{id}")));
            assert_eq!(it.message.header("aggregate-id"), Some(id.as_str()));
            assert_eq!(it.message.header("event-type"), Some("order.created"));
            assert!(it.message.header("traceparent").is_some());
        }
    }
}

#[tokio::test]
async fn every_statement_is_understood() {
    for fresh in both().await {
        for sql in ratebox_outbox::STATEMENTS {
            fresh
                .db
                .prepare(sql)
                .await
                .unwrap_or_else(|e| panic!("{}: {sql:?}: {e}", fresh.name));
        }
        for insert in ratebox_outbox::INSERTS {
            let understood = fresh.db.prepare_insert(insert).await;
            assert!(understood.is_ok(), "{}: {understood:?}", fresh.name);
        }
    }
}
