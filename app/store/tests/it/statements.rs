//! Every statement is understood by both databases.

use crate::databases::both;

#[tokio::test]
async fn every_statement_is_understood() {
    for fresh in both().await {
        for sql in ratebox_store::statements() {
            let understood = fresh.store.db().prepare(sql).await;
            assert!(
                understood.is_ok(),
                "{}: {sql:?}: {understood:?}",
                fresh.name
            );
        }
        for insert in ratebox_store::inserts() {
            let understood = fresh.store.db().prepare_insert(insert).await;
            assert!(
                understood.is_ok(),
                "{}: {insert:?}: {understood:?}",
                fresh.name
            );
        }
    }
}

#[tokio::test]
async fn migrating_twice_changes_nothing() {
    for fresh in both().await {
        fresh.store.migrate().await.unwrap();
    }
}
