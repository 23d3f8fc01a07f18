//! What was sent, kept for a time.

use std::sync::Arc;
use std::time::Duration;

use ratebox_db::{Db, Sql};
use ratebox_kit::Tasks;
use ratebox_outbox::{Event, Outbox, OutboxAdmin, Relay, RelaySettings, SentEvent, Settings};
use ratebox_testkit::wait_until;

use crate::broker::{FakeBroker, Mood};
use crate::databases::both;
use crate::relay::add;

const DAY: Duration = Duration::from_secs(86_400);

async fn count(db: &Db) -> i64 {
    let rows = db
        .query(Sql::both("SELECT count(*) FROM outbox_sent"))
        .await;
    rows.unwrap()[0].get(0).unwrap()
}

#[tokio::test]
async fn what_was_sent_is_kept_as_it_was_whichever_way_it_went() {
    for fresh in both().await {
        let (broker, tasks) = (FakeBroker::new(Mood::Up), Tasks::new());
        let settings = Settings::default();
        let outbox = Outbox::new(fresh.db.clone(), broker.clone(), settings, &tasks);
        let typed = Event::new("t", "typed")
            .aggregate("order", 7)
            .of_type("order.created")
            .with_header("tenant", "a");
        let mut tx = fresh.db.begin().await.unwrap();
        let staged = outbox.add(&mut tx, typed.clone()).await.unwrap();
        outbox.commit(tx, staged).await.unwrap();
        let admin = OutboxAdmin::new(fresh.db.clone());
        let sent = || async { admin.sent(10).await.unwrap() };
        wait_until(Duration::from_secs(5), "the archive", || async {
            sent().await.len() == 1
        })
        .await;
        // Events that share a row, by the relay.
        let plain: Vec<Event> = (0..20).map(|n| Event::new("t", format!("{n}"))).collect();
        add(&fresh.db, plain.clone()).await;
        let settings = RelaySettings::default();
        let mut relay = Relay::new(fresh.db.clone(), broker, "r1", settings, Arc::default());
        while Relay::pending(&fresh.db).await.unwrap() > 0 {
            relay.step().await.unwrap();
        }
        let mut all: Vec<Event> = sent()
            .await
            .into_iter()
            .map(|it: SentEvent| it.event)
            .collect();
        all.sort_by_key(|it| it.id);
        let mut expected = plain;
        expected.insert(0, typed);
        assert_eq!(all, expected, "{}", fresh.name);
    }
}

#[tokio::test]
async fn without_an_archive_nothing_is_left_of_what_was_sent() {
    for fresh in both().await {
        add(&fresh.db, vec![Event::new("t", "x")]).await;
        let settings = RelaySettings {
            archive: None,
            ..RelaySettings::default()
        };
        let broker = FakeBroker::new(Mood::Up);
        let mut relay = Relay::new(fresh.db.clone(), broker, "r1", settings, Arc::default());
        relay.step().await.unwrap();
        assert_eq!(Relay::pending(&fresh.db).await.unwrap(), 0);
        assert_eq!(count(&fresh.db).await, 0, "{}", fresh.name);
    }
}

#[tokio::test]
async fn topics_whose_content_is_kept_elsewhere_leave_nothing_whichever_way_they_went() {
    for fresh in both().await {
        let (broker, tasks) = (FakeBroker::new(Mood::Up), Tasks::new());
        let unarchived: Arc<[String]> = Arc::new(["answers".to_owned()]);
        let settings = Settings {
            unarchived: Arc::clone(&unarchived),
            ..Settings::default()
        };
        let outbox = Outbox::new(fresh.db.clone(), broker.clone(), settings, &tasks);
        let mixed = || vec![Event::new("answers", "a"), Event::new("orders", "o")];
        let (statement, staged) = outbox.stage(mixed()).unwrap();
        let (_, proof) = fresh.db.run(vec![statement]).await.unwrap();
        assert_eq!(outbox.publish(staged, &proof).await.sent, 2);
        wait_until(Duration::from_secs(5), "the deletion", || async {
            Relay::pending(&fresh.db).await.unwrap() == 0
        })
        .await;
        add(&fresh.db, mixed()).await;
        let settings = RelaySettings {
            unarchived,
            ..RelaySettings::default()
        };
        let mut relay = Relay::new(fresh.db.clone(), broker, "r1", settings, Arc::default());
        while Relay::pending(&fresh.db).await.unwrap() > 0 {
            relay.step().await.unwrap();
        }
        let sent = OutboxAdmin::new(fresh.db.clone()).sent(10).await.unwrap();
        let topics: Vec<String> = sent.into_iter().map(|it| it.event.topic).collect();
        assert_eq!(topics, ["orders", "orders"], "{}", fresh.name);
    }
}

#[tokio::test]
async fn days_of_the_archive_are_made_ahead_and_dropped_when_they_are_over() {
    for fresh in both().await {
        let at = |days: i64| match fresh.name {
            "SQLite" => {
                format!("CAST(unixepoch('subsec') * 1000000 AS INTEGER) - {days} * 86400000000")
            }
            _ => format!("clock_timestamp() - {days} * interval '1 day'"),
        };
        let body = if fresh.name == "SQLite" {
            "x'00'"
        } else {
            "'\\x00'"
        };
        let id = if fresh.name == "SQLite" {
            "x'00'"
        } else {
            "gen_random_uuid()"
        };
        let row = |days: i64| {
            format!(
                "INSERT INTO outbox_sent (sent_at, id, topic, body, events, attempts)
                 VALUES ({}, {id}, 't', {body}, 1, 0);",
                at(days)
            )
        };
        // A day of its own from last week, and old rows that found none.
        if fresh.name != "SQLite" {
            let day = "DO $$ BEGIN EXECUTE format('CREATE TABLE outbox_sent_%s PARTITION OF
                outbox_sent FOR VALUES FROM (%L) TO (%L)',
                to_char((now() AT TIME ZONE 'UTC')::date - 9, 'YYYYMMDD'),
                ((now() AT TIME ZONE 'UTC')::date - 9)::timestamp AT TIME ZONE 'UTC',
                ((now() AT TIME ZONE 'UTC')::date - 8)::timestamp AT TIME ZONE 'UTC'); END $$";
            fresh.db.script(day.to_owned()).await.unwrap();
        }
        // Oldest first, as they would have been sent.
        let rows: String = [30, 9, 3, 1].map(row).concat();
        fresh.db.script(rows).await.unwrap();
        let (broker, tasks) = (FakeBroker::new(Mood::Up), Tasks::new());
        let settings = RelaySettings {
            archive: Some(DAY * 7),
            ..RelaySettings::default()
        };
        let relay = Relay::new(fresh.db.clone(), broker, "r1", settings, Arc::default());
        tasks.spawn("relay", relay.run(tasks.shutdown()));
        wait_until(Duration::from_secs(10), "old days to go", || async {
            count(&fresh.db).await == 2
        })
        .await;
        if fresh.name != "SQLite" {
            let days = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'outbox_sent'::regclass";
            wait_until(Duration::from_secs(10), "days ahead", || async {
                let rows = fresh.db.query(Sql::both(days)).await.unwrap();
                rows[0].get::<i64>(0).unwrap() == 4 // three days and the DEFAULT one
            })
            .await;
            fresh.db.script(row(0)).await.unwrap();
            let found = Sql::both("SELECT count(*) FROM outbox_sent_default");
            let found = fresh.db.query(found).await.unwrap();
            assert_eq!(
                found[0].get::<i64>(0).unwrap(),
                2,
                "today has its partition"
            );
        }
        tasks.join(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn a_relay_that_may_make_no_tables_forgets_what_was_sent_by_row() {
    let owned = both().await.pop().unwrap();
    let rows = "INSERT INTO outbox_sent (sent_at, id, topic, body, events, attempts)
        SELECT clock_timestamp() - days * interval '1 day', gen_random_uuid(), 't', '\\x00', 1, 0
        FROM unnest('{30, 3}'::int[]) AS days";
    owned.db.script(rows.to_owned()).await.unwrap();
    let guest = owned.as_guest().await;
    let (broker, tasks) = (FakeBroker::new(Mood::Up), Tasks::new());
    let settings = RelaySettings {
        archive: Some(DAY * 7),
        ..RelaySettings::default()
    };
    let relay = Relay::new(guest, broker, "r1", settings, Arc::default());
    tasks.spawn("relay", relay.run(tasks.shutdown()));
    wait_until(Duration::from_secs(10), "old days to go", || async {
        count(&owned.db).await == 1
    })
    .await;
    tasks.join(Duration::from_secs(5)).await;
}
