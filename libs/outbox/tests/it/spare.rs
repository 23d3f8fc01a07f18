//! The spare table of the outbox, which takes its place when that is full of dead rows.

use std::sync::Arc;
use std::time::Duration;

use ratebox_db::{Db, Sql};
use ratebox_kit::Stopwatch;
use ratebox_outbox::{Event, Step};

use crate::broker::{FakeBroker, Mood};
use crate::dead_rows::{FILL, SMALL, TABLE, file_size, number, old_snapshot, postgres, relay};
use crate::relay::add;

const SPARE: &str = "SELECT pg_relation_size('outbox_spare'::regclass)";

/// Lets a relay look until the file is small; what is due is sent.
async fn replaced(db: &Db, broker: &Arc<FakeBroker>) {
    let mut relay = relay(db, broker, "r1");
    let watch = Stopwatch::start();
    while file_size(db).await >= SMALL {
        assert!(watch.elapsed() < Duration::from_secs(30), "not replaced");
        relay.step().await.unwrap();
    }
    // The rest of the replacement goes on beside the looks.
    while number(db, SPARE).await > 0 {
        assert!(watch.elapsed() < Duration::from_secs(30), "not emptied");
        relay.step().await.unwrap();
    }
    while relay.step().await.unwrap() != Step::Idle {}
}

#[tokio::test]
async fn the_spare_table_takes_the_place_of_one_full_of_dead_rows_with_what_lives() {
    let fresh = postgres().await;
    let snapshot = old_snapshot(&fresh.db).await;
    let broker = FakeBroker::new(Mood::Up);
    let later = |n: u32| Event::new("t", n.to_string()).deliver_after(Duration::from_secs(3600));
    add(&fresh.db, (0..50).map(later).collect()).await;
    let mut tables = Vec::new();
    for round in 0..3 {
        fresh.db.script(FILL_DEAD.to_owned()).await.unwrap();
        add(&fresh.db, vec![Event::new("t", format!("round {round}"))]).await;
        replaced(&fresh.db, &broker).await;
        tables.push(number(&fresh.db, TABLE).await);
        let waiting = "SELECT count(*) FROM outbox WHERE delay_ms IS NOT NULL";
        assert_eq!(number(&fresh.db, waiting).await, 50);
    }
    assert_eq!(broker.bodies(), ["round 0", "round 1", "round 2"]);
    assert!(
        tables[0] != tables[1] && tables[0] == tables[2],
        "{tables:?}"
    );
    let options = "SELECT count(DISTINCT reloptions::text) FROM pg_class
        WHERE oid IN ('outbox'::regclass, 'outbox_spare'::regclass)";
    assert_eq!(
        number(&fresh.db, options).await,
        1,
        "vacuum treats both alike"
    );
    snapshot.rollback().await.unwrap();
}

/// As [`FILL`], without what lives.
const FILL_DEAD: &str = "INSERT INTO outbox (partition, id, topic, body)
        SELECT n % 16, gen_random_uuid(), 'dead', repeat('x', 200)::bytea
        FROM generate_series(1, 100000) n;
    DELETE FROM outbox WHERE topic = 'dead';";

#[tokio::test]
async fn what_a_relay_left_in_the_spare_table_when_it_died_is_never_sent_again() {
    let fresh = postgres().await;
    let snapshot = old_snapshot(&fresh.db).await;
    let broker = FakeBroker::new(Mood::Up);
    // As after its death between the exchange and the emptying: rows that have moved, and dead ones.
    add(&fresh.db, vec![Event::new("t", "moved")]).await;
    let turned = "INSERT INTO outbox_spare SELECT * FROM outbox;
        ALTER TABLE outbox RENAME TO outbox_turning;
        ALTER TABLE outbox_spare RENAME TO outbox;
        ALTER TABLE outbox_turning RENAME TO outbox_spare;";
    fresh.db.script(turned.to_owned()).await.unwrap();
    let table = number(&fresh.db, TABLE).await;
    let mut sending = relay(&fresh.db, &broker, "r1");
    assert_eq!(sending.step().await.unwrap(), Step::Did(1));
    drop(sending);
    fresh
        .db
        .script("DELETE FROM leases".to_owned())
        .await
        .unwrap();
    for _ in 0..2 {
        fresh.db.script(FILL.to_owned()).await.unwrap();
        replaced(&fresh.db, &broker).await;
        fresh
            .db
            .script("DELETE FROM leases".to_owned())
            .await
            .unwrap();
    }
    assert_eq!(number(&fresh.db, TABLE).await, table, "turned twice");
    assert_eq!(broker.bodies(), ["moved"]);
    snapshot.rollback().await.unwrap();
}

/// Whatever a user ties to the table stays with it: its file is replaced, not the table.
async fn check_kept(tie: &str) {
    let fresh = postgres().await;
    let snapshot = old_snapshot(&fresh.db).await;
    fresh.db.script(tie.to_owned()).await.unwrap();
    let table = number(&fresh.db, TABLE).await;
    fresh.db.script(FILL.to_owned()).await.unwrap();
    add(&fresh.db, vec![Event::new("t", "a")]).await;
    let broker = FakeBroker::new(Mood::Up);
    replaced(&fresh.db, &broker).await;
    assert_eq!(number(&fresh.db, TABLE).await, table, "after {tie}");
    assert_eq!(broker.bodies(), ["a"]);
    snapshot.rollback().await.unwrap();
}

#[tokio::test]
async fn grants_views_triggers_columns_indexes_and_publications_keep_their_table() {
    for tie in [
        "GRANT SELECT ON outbox TO PUBLIC",
        "GRANT SELECT (topic) ON outbox TO PUBLIC",
        "CREATE VIEW waiting AS SELECT count(*) FROM outbox",
        "CREATE INDEX by_topic ON outbox (topic)",
        "ALTER TABLE outbox ADD COLUMN note text",
        "CREATE PUBLICATION changes FOR TABLE outbox",
        "CREATE RULE keep AS ON UPDATE TO outbox WHERE OLD.attempts > 99 DO INSTEAD NOTHING",
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
            CREATE TRIGGER keep AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION keep()",
    ] {
        check_kept(tie).await;
    }
}

#[tokio::test]
async fn a_server_that_dies_right_after_the_tables_turned_loses_no_event_and_doubles_none() {
    let (mut server, db) = crate::faults::postgres().await;
    let broker = FakeBroker::new(Mood::Up);
    let later = |n: u32| Event::new("t", n.to_string()).deliver_after(Duration::from_secs(3600));
    add(&db, (0..50).map(later).collect()).await;
    for round in 0..4 {
        let snapshot = old_snapshot(&db).await;
        db.script(FILL_DEAD.to_owned()).await.unwrap();
        let table = number(&db, TABLE).await;
        let mut looking = relay(&db, &broker, "r1");
        while number(&db, TABLE).await == table {
            looking.step().await.unwrap();
        }
        // What is committed after the exchange is on the disk with it; without, both may be lost.
        if round % 2 == 0 {
            add(&db, vec![later(100 + round)]).await;
        }
        server.kill9();
        drop((looking, snapshot));
        server.restart().unwrap();
        let events = 50 + i64::from(round / 2 + 1);
        let ids = "SELECT count(*) FROM outbox";
        while db.query(Sql::both(ids)).await.is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(number(&db, ids).await, events, "round {round}");
        db.script("DELETE FROM leases".to_owned()).await.unwrap();
    }
}
