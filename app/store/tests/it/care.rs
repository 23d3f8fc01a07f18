//! What the database tells of itself.

use std::time::Duration;

use ratebox_db::{Db, Sql};
use ratebox_kit::{Clock, Secret};

use crate::databases::{both, fresh, postgres_settings};

#[tokio::test]
async fn postgresql_tells_its_settings_and_its_time() {
    for fresh in both().await {
        let Some(settings) = fresh.store.server_settings().await.unwrap() else {
            assert_eq!(fresh.name, "SQLite");
            continue;
        };
        assert!(settings.version_number >= 130_000, "{settings:?}");
        assert_eq!(settings.full_page_writes, "on");
        assert!(!settings.is_read_only && settings.may_write);
        let apart = Clock::system().now().duration_since(settings.clock);
        assert!(apart.unsigned_abs() < Duration::from_secs(60), "{apart:?}");
        assert!(fresh.store.missing_migrations().await.unwrap().is_empty());
    }
}

/// As on a standby, or after a failover.
#[tokio::test]
async fn a_database_that_takes_no_writes_says_so_and_is_not_well() {
    let mut settings = postgres_settings();
    let dsn = settings.dsn.reveal().to_owned();
    let fresh = fresh("PostgreSQL", Db::postgres(&settings).unwrap()).await;
    settings.dsn = Secret::new(format!("{dsn}?options=-cdefault_transaction_read_only=on"));
    let closed = Db::postgres(&settings).unwrap();
    let store = ratebox_store::Store::new(closed.clone(), Clock::system());
    assert!(store.server_settings().await.unwrap().unwrap().is_read_only);
    closed.ping().await.unwrap();
    let write = Sql::both("DELETE FROM idempotency_keys");
    let refused = closed.execute(write).await.unwrap_err();
    assert!(refused.is_refusal() && refused.is_outage(), "{refused}");
    assert!(closed.ping().await.unwrap_err().is_refusal());
    fresh.store.db().ping().await.unwrap();
}
