//! The sending half.

use std::sync::Arc;
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
async fn an_ordered_event_is_left_to_the_relay() {
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
