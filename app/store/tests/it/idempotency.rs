//! One submission for one key.

use std::time::Duration;

use ratebox_kit::id;
use ratebox_store::{Claim, IdempotencyKey};

use crate::databases::{Fresh, both};

fn key(fresh: &Fresh, owner: &str, key: &str) -> IdempotencyKey {
    IdempotencyKey {
        owner: owner.to_owned(),
        key: key.to_owned(),
        fingerprint: "f".to_owned(),
        request_id: id::new(),
        answer: "{}".to_owned(),
        created_at: fresh.clock.now(),
    }
}

async fn claim(fresh: &Fresh, keys: &[IdempotencyKey]) -> Vec<Claim> {
    let mut tx = fresh.store.begin().await.unwrap();
    let claims = fresh.store.claim_keys(&mut tx, keys).await.unwrap();
    tx.commit().await.unwrap();
    claims
}

#[tokio::test]
async fn a_key_belongs_to_the_first_submission_of_its_owner() {
    for fresh in both().await {
        let first = key(&fresh, "me", "k");
        assert_eq!(
            claim(&fresh, std::slice::from_ref(&first)).await,
            [Claim::Mine]
        );
        let keys = [
            key(&fresh, "me", "k"),
            key(&fresh, "you", "k"),
            key(&fresh, "me", "l"),
        ];
        let theirs = Claim::Theirs {
            fingerprint: "f".to_owned(),
            request_id: first.request_id,
            answer: "{}".to_owned(),
        };
        assert_eq!(
            claim(&fresh, &keys).await,
            [theirs, Claim::Mine, Claim::Mine],
            "{}",
            fresh.name
        );
    }
}

#[tokio::test]
async fn of_two_equal_keys_in_one_call_the_first_wins() {
    for fresh in both().await {
        let (first, second) = (key(&fresh, "me", "k"), key(&fresh, "me", "k"));
        let claims = claim(&fresh, &[first.clone(), second]).await;
        assert_eq!(claims[0], Claim::Mine, "{}", fresh.name);
        assert!(
            matches!(&claims[1], Claim::Theirs { request_id, .. } if *request_id == first.request_id)
        );
    }
}

#[tokio::test]
async fn keys_are_forgotten_after_their_time() {
    for fresh in both().await {
        claim(&fresh, &[key(&fresh, "me", "k")]).await;
        fresh.clock.advance(Duration::from_secs(7200));
        let day = Duration::from_secs(86_400);
        assert_eq!(
            fresh.store.forget_old(day).await.unwrap(),
            0,
            "{}",
            fresh.name
        );
        fresh.clock.advance(day);
        assert_eq!(
            fresh.store.forget_old(day).await.unwrap(),
            1,
            "{}",
            fresh.name
        );
    }
}

/// As the stream mode keeps them beside an embedded bus.
#[tokio::test]
async fn what_is_kept_beside_requests_stays_with_its_key_until_it_is_forgotten() {
    for fresh in both().await {
        let store = &fresh.store;
        let keep = async |value| store.keep_beside_if_absent("k", value).await.unwrap();
        assert_eq!(keep("one").await, None, "{}", fresh.name);
        assert_eq!(keep("two").await.as_deref(), Some("one"), "{}", fresh.name);
        store.keep_beside("k", "three").await.unwrap();
        store.keep_beside("l", "new").await.unwrap();
        assert_eq!(
            keep("two").await.as_deref(),
            Some("three"),
            "{}",
            fresh.name
        );
        // A client's own key is another one.
        let theirs = key(&fresh, "me", "k");
        assert_eq!(claim(&fresh, &[theirs]).await, [Claim::Mine]);
    }
}
