//! Leased ownership with fencing, on the server's clock.

use std::time::Duration;

use ratebox_testkit::{RedisServer, wait_until};
use ratebox_valkey::{Leases, Settings, Valkey};

fn pair(length: Duration) -> (Valkey, Leases, Leases) {
    let settings = Settings::new(RedisServer::shared().unwrap().url());
    let valkey = Valkey::lazy(&settings).unwrap();
    let of = |name: &str| Leases::new(valkey.clone(), name, length);
    let (a, b) = (of("a"), of("b"));
    (valkey, a, b)
}

#[tokio::test]
async fn a_held_lease_is_not_given_to_another_and_renewing_keeps_the_epoch() {
    let (valkey, a, b) = pair(Duration::from_secs(60));
    let first = a.take("lease:held").await.unwrap().unwrap();
    assert_eq!(b.take("lease:held").await.unwrap(), None);
    b.give_back("lease:held").await.unwrap();
    assert_eq!(a.take("lease:held").await.unwrap(), Some(first));
    let found = Leases::find(&valkey, "lease:held").await.unwrap();
    assert_eq!(found, Some(("a".to_owned(), first)));
}

#[tokio::test]
async fn a_lease_that_was_given_back_ended_or_lost_changes_hands_with_a_higher_epoch() {
    let (valkey, a, b) = pair(Duration::from_millis(200));
    let first = a.take("lease:short").await.unwrap().unwrap();
    a.give_back("lease:short").await.unwrap();
    assert_eq!(Leases::find(&valkey, "lease:short").await.unwrap(), None);
    let second = b.take("lease:short").await.unwrap().unwrap();
    assert!(second > first);
    wait_until(Duration::from_secs(5), "the lease of b to end", || async {
        a.take("lease:short")
            .await
            .unwrap()
            .is_some_and(|third| third > second)
    })
    .await;
    let mut delete = redis::cmd("DEL");
    delete.arg("lease:short");
    valkey.query(&delete).await.unwrap();
    let fourth = b.take("lease:short").await.unwrap().unwrap();
    assert!(
        fourth > second,
        "the server's clock stands behind a lost key"
    );
}

#[tokio::test]
async fn those_who_live_are_met_in_order_of_name() {
    let (_, a, b) = pair(Duration::from_millis(300));
    assert_eq!(b.meet("lease:members").await.unwrap(), ["b"]);
    assert_eq!(a.meet("lease:members").await.unwrap(), ["a", "b"]);
    b.leave("lease:members").await.unwrap();
    assert_eq!(a.meet("lease:members").await.unwrap(), ["a"]);
    wait_until(Duration::from_secs(5), "a to be forgotten", || async {
        b.meet("lease:members").await.unwrap() == ["b"]
    })
    .await;
}

/// As after the server's clock was set back by an hour, or when a server with another clock took over.
#[tokio::test]
async fn what_ends_further_ahead_than_any_lease_ends_after_one_length() {
    let (valkey, a, b) = pair(Duration::from_millis(200));
    let first = a.take("lease:ahead").await.unwrap().unwrap();
    a.meet("lease:ahead-members").await.unwrap();
    let mut ahead = redis::cmd("HINCRBY");
    ahead.arg("lease:ahead").arg("ends").arg(3_600_000);
    valkey.query(&ahead).await.unwrap();
    let mut ahead = redis::cmd("ZINCRBY");
    ahead.arg("lease:ahead-members").arg(3_600_000).arg("a");
    valkey.query(&ahead).await.unwrap();
    wait_until(Duration::from_secs(5), "the lease of a to end", || async {
        let second = b.take("lease:ahead").await.unwrap();
        second.is_some_and(|second| second > first)
    })
    .await;
    wait_until(Duration::from_secs(5), "a to be forgotten", || async {
        b.meet("lease:ahead-members").await.unwrap() == ["b"]
    })
    .await;
}
