//! The predecessor's sagas in our tables.

use std::time::Duration;

use ratebox_db::{Db, PostgresSettings, migrate};
use ratebox_kit::{Secret, Tasks};
use ratebox_saga::{
    By, Desk, Engine, Filter, Journal, Kind, MIGRATIONS, OWNER, Order, Outcome, SqlStore, Status,
    Time, take_over_predecessor,
};
use ratebox_testkit::{PostgresServer, unique_name};

/// As release 1.5.0 makes its tables, with three sagas.
const OLD: &str = "
    CREATE SCHEMA old;
    CREATE TABLE old.sagas (saga_id varchar(255) PRIMARY KEY, saga_name varchar(255) NOT NULL,
        status varchar(50) NOT NULL, context jsonb NOT NULL DEFAULT '{}', metadata jsonb,
        created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz DEFAULT now());
    CREATE TABLE old.saga_steps (id serial PRIMARY KEY, saga_id varchar(255) NOT NULL
        REFERENCES old.sagas ON DELETE CASCADE, step_name varchar(255) NOT NULL,
        status varchar(50) NOT NULL, result jsonb, error text, executed_at timestamptz,
        compensated_at timestamptz, retry_count int DEFAULT 0, UNIQUE (saga_id, step_name));
    INSERT INTO old.sagas VALUES
        ('a', 'order', 'completed', '{\"n\": 1}', NULL, '2026-01-01', '2026-01-02'),
        ('b', 'order', 'rolled_back', '{}', NULL, '2026-01-03', '2026-01-04'),
        ('c', 'trip', 'executing', '{}', NULL, '2026-01-05', NULL);
    INSERT INTO old.saga_steps (saga_id, step_name, status, result, error, executed_at,
            compensated_at, retry_count) VALUES
        ('a', 'pay', 'completed', '{\"sum\": 3}', NULL, '2026-01-01 01:00', NULL, 2),
        ('b', 'take', 'compensated', '1', NULL, '2026-01-03 01:00', '2026-01-03 03:00', 0),
        ('b', 'fail', 'failed', NULL, 'no', '2026-01-03 02:00', NULL, 3),
        ('c', 'wait', 'pending', NULL, NULL, NULL, NULL, 0)";

async fn database() -> Db {
    let server = PostgresServer::shared().unwrap();
    let dsn = server.create_database(&unique_name("taken")).unwrap();
    let db = Db::postgres(&PostgresSettings::new(Secret::new(dsn))).unwrap();
    migrate(&db, OWNER, MIGRATIONS).await.unwrap();
    db
}

#[tokio::test]
async fn the_predecessors_sagas_are_copied_once_with_what_their_steps_did() {
    let db = database().await;
    let nothing = take_over_predecessor(&db, "old").await.unwrap();
    assert!(nothing.is_empty(), "there is no such table: {nothing:?}");
    db.script(OLD.to_owned()).await.unwrap();
    for _ in 0..2 {
        let compared = take_over_predecessor(&db, "old").await.unwrap();
        let figures: Vec<_> = compared.iter().map(|it| (it.there, it.here)).collect();
        assert_eq!(figures, [(3, 3), (4, 4)]);
    }
    let desk = Desk::new(&Journal::new(SqlStore::new(db)), Time::system());
    let filter = Filter {
        limit: 10,
        ..Filter::default()
    };
    let heads = desk.list(&filter).await.unwrap();
    let seen: Vec<_> = heads
        .iter()
        .map(|it| (it.key.as_deref().unwrap(), &*it.definition, it.status))
        .collect();
    let expected = [
        ("a", "order", Status::Completed),
        ("b", "order", Status::RolledBack),
        ("c", "trip", Status::Parked),
    ];
    assert_eq!(seen, expected, "by the time of their start");
    let records = desk.stored(heads[1].id).await.unwrap().records;
    let kinds: Vec<_> = records.iter().map(|it| (&*it.step, it.kind)).collect();
    let expected = [
        ("take", Kind::Done),
        ("fail", Kind::Failed),
        ("take", Kind::Undone),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(records[1].note.as_deref(), Some("no"));
    assert_eq!(records[1].attempt, 4);
}

#[tokio::test]
async fn a_saga_whose_definition_is_nowhere_is_ended_by_an_operator() {
    let db = database().await;
    db.script(OLD.to_owned()).await.unwrap();
    take_over_predecessor(&db, "old").await.unwrap();
    let journal = Journal::new(SqlStore::new(db));
    let (desk, tasks) = (Desk::new(&journal, Time::system()), Tasks::new());
    let filter = Filter {
        statuses: vec![Status::Parked],
        limit: 10,
        ..Filter::default()
    };
    let id = desk.list(&filter).await.unwrap()[0].id;
    let _engine = Engine::builder(&journal).start(&tasks).unwrap();
    let by = By::new("jo", "nobody needs it");
    let retry = Order::Retry {
        step: "wait".to_owned(),
    };
    assert!(desk.prepare(id, &retry, &by).await.is_err());
    let sent = desk.prepare(id, &Order::Abandon, &by).await.unwrap();
    desk.send(&sent).await.unwrap();
    let outcome = desk.settled(&sent, Duration::from_secs(10)).await;
    assert_eq!(outcome.unwrap(), Outcome::Done);
    let stored = desk.stored(id).await.unwrap();
    assert_eq!(stored.head.status, Status::Failed);
    assert_eq!(stored.records[0].who.as_deref(), Some("jo"));
    tasks.join(Duration::from_secs(5)).await;
}
