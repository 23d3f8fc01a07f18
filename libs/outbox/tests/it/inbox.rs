//! The receiving half.

use std::collections::HashSet;
use std::time::Duration;

use ratebox_db::{Db, Sql};
use ratebox_kit::{Clock, id};
use ratebox_outbox::Inbox;

use crate::databases::both;

#[tokio::test]
async fn a_message_is_new_once_for_each_consumer() {
    for fresh in both().await {
        let (billing, audit) = (Inbox::new("billing", "t"), Inbox::new("audit", "t"));
        let (a, b, c) = (id::new(), id::new(), id::new());
        let mut tx = fresh.db.begin().await.unwrap();
        assert_eq!(
            billing.mark(&mut tx, &[a, b]).await.unwrap(),
            HashSet::from([a, b])
        );
        tx.commit().await.unwrap();
        let mut tx = fresh.db.begin().await.unwrap();
        assert_eq!(
            billing.mark(&mut tx, &[b, c]).await.unwrap(),
            HashSet::from([c])
        );
        assert_eq!(
            audit.mark(&mut tx, &[b]).await.unwrap(),
            HashSet::from([b]),
            "{}",
            fresh.name
        );
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_mark_whose_effect_was_rolled_back_is_new_again() {
    for fresh in both().await {
        let (inbox, message) = (Inbox::new("billing", "t"), id::new());
        let mut tx = fresh.db.begin().await.unwrap();
        inbox.mark(&mut tx, &[message]).await.unwrap();
        drop(tx);
        let mut tx = fresh.db.begin().await.unwrap();
        let new = inbox.mark(&mut tx, &[message]).await.unwrap();
        assert_eq!(new.len(), 1, "{}", fresh.name);
    }
}

#[tokio::test]
async fn two_deliveries_at_once_have_one_effect() {
    for fresh in both().await {
        let message = id::new();
        let deliveries = (0..8).map(|_| {
            let db = fresh.db.clone();
            async move {
                let mut tx = db.begin().await.unwrap();
                let new = Inbox::new("billing", "t")
                    .mark(&mut tx, &[message])
                    .await
                    .unwrap();
                tx.commit().await.unwrap();
                new.len()
            }
        });
        let effects: usize = futures_util::future::join_all(deliveries)
            .await
            .into_iter()
            .sum();
        assert_eq!(effects, 1, "{}", fresh.name);
    }
}

#[tokio::test]
async fn marks_outside_the_window_are_forgotten() {
    for fresh in both().await {
        let (inbox, message) = (Inbox::new("billing", "t"), id::new());
        let mut tx = fresh.db.begin().await.unwrap();
        inbox.mark(&mut tx, &[message]).await.unwrap();
        tx.commit().await.unwrap();
        let now = Clock::system().now();
        let day = Duration::from_secs(86_400);
        assert_eq!(
            inbox.forget(&fresh.db, now, day).await.unwrap(),
            0,
            "{}",
            fresh.name
        );
        let tomorrow = now.checked_add(day * 2).unwrap();
        assert_eq!(
            inbox.forget(&fresh.db, tomorrow, day).await.unwrap(),
            1,
            "{}",
            fresh.name
        );
    }
}

#[tokio::test]
async fn a_claim_of_many_fails_as_a_whole_when_one_was_marked_before() {
    for fresh in both().await {
        for count in [1, 5, 100] {
            let (inbox, now) = (Inbox::new("billing", "t"), Clock::system().now());
            let ids: Vec<_> = (0..count).map(|_| id::new()).collect();
            let known = *ids.last().unwrap();
            let claim = |ids: &[_]| inbox.claim(ids, now).unwrap();
            let (_, proof) = fresh.db.run(vec![claim(&[known])]).await.unwrap();
            inbox.marked(1, 0, &proof);
            let error = fresh.db.run(vec![claim(&ids)]).await.unwrap_err();
            assert!(error.is_duplicate(), "{}: {error}", fresh.name);
            let mut tx = fresh.db.begin().await.unwrap();
            let new = inbox.mark(&mut tx, &ids).await.unwrap();
            assert_eq!(new.len(), count - 1);
            assert!(!new.contains(&known));
        }
    }
}

#[tokio::test]
async fn two_claims_at_once_have_one_effect() {
    for fresh in both().await {
        let message = id::new();
        let claims = (0..8).map(|_| {
            let claim = Inbox::new("billing", "t").claim(&[message], Clock::system().now());
            let db = fresh.db.clone();
            async move { db.run(vec![claim.unwrap()]).await.is_ok() }
        });
        let done = futures_util::future::join_all(claims).await;
        assert_eq!(
            done.into_iter().filter(|it| *it).count(),
            1,
            "{}",
            fresh.name
        );
    }
}

/// Housekeeping must not stand still for want of a right that nothing needs.
#[tokio::test]
async fn a_user_who_may_make_no_tables_forgets_marks_all_the_same() {
    let owned = both().await.pop().unwrap();
    let guest = owned.as_guest().await;
    let (inbox, message) = (Inbox::new("billing", "t"), id::new());
    let mut tx = guest.begin().await.unwrap();
    inbox.mark(&mut tx, &[message]).await.unwrap();
    tx.commit().await.unwrap();
    let now = Clock::system().now();
    let day = Duration::from_secs(86_400);
    let forget = async |db: &Db, at| inbox.forget(db, at, day).await.unwrap();
    assert_eq!(forget(&guest, now).await, 0, "no partition is there");
    assert_eq!(forget(&owned.db, now).await, 0);
    assert_eq!(forget(&guest, now).await, 0, "the owner made some");
    let much_later = now.checked_add(day * 90).unwrap();
    assert_eq!(forget(&guest, much_later).await, 1);
    let weeks =
        Sql::both("SELECT count(*) FROM pg_inherits WHERE inhparent = 'consumer_inbox'::regclass");
    let weeks = guest.query(weeks).await.unwrap();
    // This week's marks are in the default partition already, so it gets none.
    assert_eq!(weeks[0].get::<i64>(0).unwrap(), 4, "the guest dropped none");
}
