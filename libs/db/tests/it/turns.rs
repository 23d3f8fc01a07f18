//! Whoever has the turn works alone.

use std::time::Duration;

use ratebox_db::Turn;
use ratebox_testkit::wait_until;

use crate::databases::both;

#[tokio::test]
async fn a_turn_is_taken_once_until_it_is_dropped() {
    for fresh in both() {
        let first = Turn::take(&fresh.db, 7).await.unwrap();
        let other = Turn::take(&fresh.db, 8).await.unwrap();
        assert!(first.is_some() && other.is_some(), "{}", fresh.name);
        let second = Turn::take(&fresh.db, 7).await.unwrap();
        // SQLite has no such work, and its one writer stays free.
        assert_eq!(
            second.is_none(),
            fresh.name == "PostgreSQL",
            "{}",
            fresh.name
        );
        fresh
            .db
            .script("CREATE TABLE meanwhile (n INT)".to_owned())
            .await
            .unwrap();
        drop((first, second));
        let is_free = || async { Turn::take(&fresh.db, 7).await.unwrap().is_some() };
        wait_until(Duration::from_secs(10), "the turn is free", is_free).await;
    }
}
