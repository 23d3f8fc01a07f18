//! Events that join a transaction of the caller's own driver.

use std::sync::Arc;

use ratebox_kit::Tasks;
use ratebox_outbox::{Event, Outbox, Published, Relay, Settings};

use crate::broker::{FakeBroker, Mood};
use crate::databases::{Fresh, both};

fn outbox(fresh: &Fresh) -> (Outbox, Arc<FakeBroker>) {
    let broker = FakeBroker::new(Mood::Up);
    let settings = Settings::default();
    let outbox = Outbox::new(fresh.db.clone(), broker.clone(), settings, &Tasks::new());
    (outbox, broker)
}

fn event() -> Event {
    Event::new("t", "body")
        .aggregate("order", 42)
        .of_type("order.created")
        .with_header("a", "b")
}

async fn is_gone(fresh: &Fresh) {
    ratebox_testkit::wait_until(
        std::time::Duration::from_secs(5),
        "the row to go",
        || async { Relay::pending(&fresh.db).await.unwrap() == 0 },
    )
    .await;
}

#[tokio::test]
async fn an_event_joins_a_transaction_of_tokio_postgres() {
    let fresh = both().await.remove(1);
    let (outbox, broker) = outbox(&fresh);
    let (mut client, link) = tokio_postgres::connect(&fresh.place, tokio_postgres::NoTls)
        .await
        .unwrap();
    let tasks = Tasks::new();
    tasks.spawn("link", async { link.await.unwrap() });
    let mut tx = client.transaction().await.unwrap();
    drop(outbox.add(&mut tx, event()).await.unwrap());
    tx.rollback().await.unwrap();
    assert_eq!(Relay::pending(&fresh.db).await.unwrap(), 0);
    let mut tx = client.transaction().await.unwrap();
    let first = outbox.add(&mut tx, event()).await.unwrap();
    let second = outbox.add(&mut tx, event()).await.unwrap();
    let published = outbox.commit(tx, first.and(second)).await.unwrap();
    // The second has an older one before it.
    assert_eq!(published, Published { sent: 1, left: 1 });
    assert_eq!(broker.got()[0].message.header("aggregate-id"), Some("42"));
    // A key that exists ends the transaction, not the process.
    let mut tx = client.transaction().await.unwrap();
    let known = event();
    drop(outbox.add(&mut tx, known.clone()).await.unwrap());
    let error = outbox.add(&mut tx, known).await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
}

/// PostgreSQL calls the commit of a failed transaction a success, and a savepoint's commit is none.
#[tokio::test]
async fn what_tokio_postgres_did_not_commit_is_not_published() {
    let fresh = both().await.remove(1);
    let (outbox, broker) = outbox(&fresh);
    let (mut client, link) = tokio_postgres::connect(&fresh.place, tokio_postgres::NoTls)
        .await
        .unwrap();
    let tasks = Tasks::new();
    tasks.spawn("link", async { link.await.unwrap() });
    let mut tx = client.transaction().await.unwrap();
    let staged = outbox.add(&mut tx, event()).await.unwrap();
    tx.batch_execute("SELECT nonsense").await.unwrap_err();
    let error = outbox.commit(tx, staged).await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    let mut tx = client.transaction().await.unwrap();
    let mut savepoint = tx.transaction().await.unwrap();
    let staged = outbox.add(&mut savepoint, event()).await.unwrap();
    let published = outbox.commit(savepoint, staged).await.unwrap();
    assert_eq!(published, Published { sent: 0, left: 1 });
    tx.rollback().await.unwrap();
    assert!(broker.ids().is_empty());
    assert_eq!(Relay::pending(&fresh.db).await.unwrap(), 0);
}

#[tokio::test]
async fn an_event_joins_a_transaction_of_rusqlite() {
    let fresh = both().await.remove(0);
    let (outbox, broker) = outbox(&fresh);
    let mut connection = rusqlite::Connection::open(&fresh.place).unwrap();
    let mut tx = connection.transaction().unwrap();
    drop(outbox.add(&mut tx, event()).await.unwrap());
    tx.rollback().unwrap();
    assert_eq!(Relay::pending(&fresh.db).await.unwrap(), 0);
    let mut tx = connection.transaction().unwrap();
    tx.execute("CREATE TABLE orders (id)", []).unwrap();
    let staged = outbox.add(&mut tx, event()).await.unwrap();
    let published = outbox.commit(tx, staged).await.unwrap();
    assert_eq!(published, Published { sent: 1, left: 0 });
    assert_eq!(broker.bodies(), ["body"]);
    is_gone(&fresh).await;
}

#[cfg(feature = "sqlx")]
#[tokio::test]
async fn an_event_joins_a_transaction_of_sqlx() {
    use sqlx::Connection as _;
    let fresh = both().await.remove(1);
    let (outbox, broker) = outbox(&fresh);
    let mut connection = sqlx::PgConnection::connect(&fresh.place).await.unwrap();
    let mut tx = connection.begin().await.unwrap();
    drop(outbox.add(&mut tx, event()).await.unwrap());
    tx.rollback().await.unwrap();
    assert_eq!(Relay::pending(&fresh.db).await.unwrap(), 0);
    // A commit of a failed transaction is none.
    let mut tx = connection.begin().await.unwrap();
    let staged = outbox.add(&mut tx, event()).await.unwrap();
    let nonsense = sqlx::query("SELECT nonsense").execute(&mut *tx).await;
    assert!(nonsense.is_err());
    let error = outbox.commit(tx, staged).await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    assert!(broker.ids().is_empty());
    let mut tx = connection.begin().await.unwrap();
    let staged = outbox.add(&mut tx, event()).await.unwrap();
    let published = outbox.commit(tx, staged).await.unwrap();
    assert_eq!(published, Published { sent: 1, left: 0 });
    assert_eq!(broker.bodies(), ["body"]);
    is_gone(&fresh).await;
}
