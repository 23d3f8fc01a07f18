//! Leased ownership with fencing.

use std::time::Duration;

use ratebox_db::{Leases, Sql, migrate};
use ratebox_testkit::wait_until;

use crate::databases::{Fresh, both};

async fn pair(fresh: &Fresh, length: Duration) -> (Leases, Leases) {
    migrate(&fresh.db, Leases::OWNER, Leases::MIGRATIONS)
        .await
        .unwrap();
    (
        Leases::new(fresh.db.clone(), "a", length),
        Leases::new(fresh.db.clone(), "b", length),
    )
}

fn names() -> Vec<String> {
    vec!["x/0".to_owned(), "x/1".to_owned()]
}

#[tokio::test]
async fn a_held_lease_is_not_given_to_another_and_renewing_keeps_the_epoch() {
    for fresh in both() {
        let (a, b) = pair(&fresh, Duration::from_secs(60)).await;
        let first = a.take(names()).await.unwrap();
        assert_eq!(first.len(), 2, "{}", fresh.name);
        assert!(b.take(names()).await.unwrap().is_empty(), "{}", fresh.name);
        assert_eq!(a.take(names()).await.unwrap(), first);
        assert_eq!(Leases::holders(&fresh.db, "x/").await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_lease_that_was_given_back_or_ended_changes_hands_with_a_new_epoch() {
    for fresh in both() {
        let (a, b) = pair(&fresh, Duration::from_millis(200)).await;
        let old = a.take(names()).await.unwrap();
        a.give_back().await.unwrap();
        let new = b.take(names()).await.unwrap();
        assert_eq!(new[0].epoch, old[0].epoch + 1, "{}", fresh.name);
        wait_until(Duration::from_secs(5), "the lease of b to end", || async {
            a.take(names()).await.unwrap().len() == 2
        })
        .await;
    }
}

#[tokio::test]
async fn every_statement_is_understood() {
    for fresh in both() {
        migrate(&fresh.db, Leases::OWNER, Leases::MIGRATIONS)
            .await
            .unwrap();
        for sql in Leases::STATEMENTS {
            fresh.db.prepare(sql).await.unwrap();
        }
    }
}

#[tokio::test]
async fn some_leases_go_back_and_the_live_ones_are_listed() {
    for fresh in both() {
        let (a, b) = pair(&fresh, Duration::from_secs(60)).await;
        a.take(names()).await.unwrap();
        a.give_back_some(vec!["x/0".to_owned()]).await.unwrap();
        b.give_back_some(vec!["x/1".to_owned()]).await.unwrap();
        let live = Leases::live(&fresh.db, "x/").await.unwrap();
        let live: Vec<_> = live
            .iter()
            .map(|(lease, holder)| (lease.name.as_str(), holder.as_str()))
            .collect();
        assert_eq!(live, [("x/1", "a")], "{}", fresh.name);
        assert_eq!(b.take(names()).await.unwrap().len(), 1);
    }
}

/// The clock that the database reads went back by an hour: the end of a dead holder's lease lies
/// that far ahead.
#[tokio::test]
async fn a_lease_from_before_the_clock_was_set_back_is_over() {
    const AHEAD: Sql = Sql {
        postgres: "UPDATE leases SET ends_at = ends_at + interval '1 hour' WHERE name = 'x/0'",
        sqlite: "UPDATE leases SET ends_at = ends_at + 3600000000 WHERE name = 'x/0'",
    };
    for fresh in both() {
        let (a, b) = pair(&fresh, Duration::from_secs(60)).await;
        let old = a.take(names()).await.unwrap();
        fresh.db.execute(AHEAD.with(Vec::new())).await.unwrap();
        let live = Leases::live(&fresh.db, "x/").await.unwrap();
        assert_eq!(live.len(), 1, "{}", fresh.name);
        assert_eq!(live[0].0.name, "x/1", "{}", fresh.name);
        let taken = b.take(names()).await.unwrap();
        assert_eq!(taken.len(), 1, "{}", fresh.name);
        assert_eq!(taken[0].name, "x/0", "{}", fresh.name);
        assert_eq!(taken[0].epoch, old[0].epoch + 1, "{}", fresh.name);
    }
}

/// Who reckons with its end must know what was cut off; and the longest lease bears a clock that is
/// corrected by half a minute.
#[tokio::test]
async fn a_lease_of_an_hour_lasts_ten_minutes_and_says_so() {
    const BACK: Sql = Sql {
        postgres: "UPDATE leases SET ends_at = ends_at + interval '30 seconds'",
        sqlite: "UPDATE leases SET ends_at = ends_at + 30000000",
    };
    for fresh in both() {
        let (a, b) = pair(&fresh, Duration::from_secs(3600)).await;
        assert_eq!(a.length(), Duration::from_secs(600));
        assert_eq!(a.take(names()).await.unwrap().len(), names().len());
        fresh.db.execute(BACK.with(Vec::new())).await.unwrap();
        assert!(b.take(names()).await.unwrap().is_empty(), "{}", fresh.name);
    }
}
