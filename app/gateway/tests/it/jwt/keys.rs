//! The keys: exchanged, withdrawn, invented, away.

use std::sync::Arc;
use std::time::Duration;

use ratebox_testkit::JwtKey;
use serde_json::json;

use super::{Issuer, SECRET, claims, clock, come, door, refused, status};

#[tokio::test]
async fn invented_keys_cost_the_issuer_one_fetch_in_ten_seconds() {
    let (clock, key) = (clock(), JwtKey::eddsa("k").unwrap());
    let issuer = Issuer::new(&[&key]);
    let door = door(&issuer, &clock, |_| {}).await;
    let good = key.sign(&claims(&clock, "ann"));
    assert_eq!(status(&door, &good).await, 202);
    for round in 1..=3 {
        clock.advance(Duration::from_secs(10));
        for number in 0..50 {
            let head = json!({ "alg": "EdDSA", "kid": format!("{round}-{number}") });
            let token = key.sign_with(&head, &claims(&clock, "ann"));
            assert_eq!(status(&door, &token).await, 401);
        }
        assert_eq!(issuer.asked(), 1 + round);
        assert_eq!(status(&door, &good).await, 202);
    }
    // Nor does the same one ask again and again, nor do many at once.
    let head = json!({ "alg": "EdDSA", "kid": "new" });
    let token = key.sign_with(&head, &claims(&clock, "ann"));
    clock.advance(Duration::from_secs(10));
    let all = (0..50).map(|_| status(&door, &token));
    let all = futures_util::future::join_all(all).await;
    assert!(all.iter().all(|status| *status == 401));
    assert_eq!(issuer.asked(), 5);
}

#[tokio::test]
async fn a_new_key_is_found_when_a_token_names_it() {
    let (clock, old) = (clock(), JwtKey::es256("old").unwrap());
    let new = JwtKey::es256("new").unwrap();
    let issuer = Issuer::new(&[&old]);
    let door = door(&issuer, &clock, |_| {}).await;
    assert_eq!(status(&door, &old.sign(&claims(&clock, "ann"))).await, 202);
    issuer.show(&[&old, &new]);
    let token = new.sign(&claims(&clock, "ann"));
    // Just asked; somebody's invention must not make us ask at once.
    assert_eq!(status(&door, &token).await, 401);
    clock.advance(Duration::from_secs(10));
    let crowd = (0..20).map(|_| status(&door, &token));
    let crowd = futures_util::future::join_all(crowd).await;
    assert!(crowd.iter().all(|status| *status == 202), "{crowd:?}");
    assert_eq!(issuer.asked(), 2);
    assert_eq!(status(&door, &old.sign(&claims(&clock, "ann"))).await, 202);
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn a_withdrawn_key_ends_with_the_set_that_had_it() {
    let (clock, old) = (clock(), JwtKey::es256("old").unwrap());
    let new = JwtKey::es256("new").unwrap();
    let issuer = Issuer::new(&[&old, &new]);
    let door = door(&issuer, &clock, |_| {}).await;
    let token = old.sign(&claims(&clock, "ann"));
    assert_eq!(status(&door, &token).await, 202);
    issuer.show(&[&new]);
    clock.advance(Duration::from_secs(300));
    assert_eq!(status(&door, &token).await, 401);
    assert_eq!(status(&door, &new.sign(&claims(&clock, "ann"))).await, 202);
}

#[tokio::test]
async fn the_last_keys_stand_in_for_an_issuer_that_is_away_and_not_for_ever() {
    let (clock, key) = (clock(), JwtKey::es256("k").unwrap());
    let issuer = Issuer::new(&[&key]);
    let door = door(&issuer, &clock, |_| {}).await;
    let forever = {
        let mut claims = claims(&clock, "ann");
        claims["exp"] = json!(clock.now().as_second() + 1_000_000);
        key.sign(&claims)
    };
    assert_eq!(status(&door, &forever).await, 202);
    issuer.go_away();
    clock.advance(Duration::from_secs(301));
    for _ in 0..20 {
        assert_eq!(status(&door, &forever).await, 202);
    }
    // It is asked once, then left alone for a while.
    assert_eq!(issuer.asked(), 2);
    let head = json!({ "alg": "ES256", "kid": "unknown" });
    let unknown = come(&door, &key.sign_with(&head, &claims(&clock, "ann"))).await;
    assert_eq!(refused(&unknown), (503, "auth.unavailable".to_owned()));
    clock.advance(Duration::from_secs(3590));
    assert_eq!(status(&door, &forever).await, 202);
    clock.advance(Duration::from_secs(10));
    let answer = come(&door, &forever).await;
    assert_eq!(refused(&answer), (503, "auth.unavailable".to_owned()));
    assert!(answer.header("retry-after").is_some());
    for word in ["issuer is away", "jwks", "http"] {
        assert!(!answer.text().contains(word), "{}", answer.text());
    }
    issuer.show(&[&key]);
    clock.advance(Duration::from_secs(10));
    assert_eq!(status(&door, &forever).await, 202);
}

#[tokio::test]
async fn without_any_keys_nobody_can_tell_and_the_issuer_is_left_in_peace() {
    let (clock, key) = (clock(), JwtKey::es256("k").unwrap());
    let issuer = Issuer::new(&[&key]);
    issuer.go_away();
    let door = door(&issuer, &clock, |_| {}).await;
    let token = key.sign(&claims(&clock, "ann"));
    for _ in 0..20 {
        assert_eq!(refused(&come(&door, &token).await).1, "auth.unavailable");
    }
    assert_eq!(issuer.asked(), 1);
    // What is no token of ours does not need keys to be refused.
    assert_eq!(status(&door, "eyJhbGciOiJub25lIn0.e30.AAAA").await, 401);
    let api = door.token("ann", &["create"]).await;
    assert_eq!(status(&door, &api).await, 202);
    issuer.show(&[&key]);
    clock.advance(Duration::from_secs(10));
    assert_eq!(status(&door, &token).await, 202);
}

#[tokio::test]
async fn a_set_that_cannot_be_read_is_as_good_as_none() {
    let (clock, key) = (clock(), JwtKey::es256("k").unwrap());
    let issuer = Issuer::new(&[&key]);
    let door = door(&issuer, &clock, |_| {}).await;
    let token = key.sign(&claims(&clock, "ann"));
    assert_eq!(status(&door, &token).await, 202);
    for bad in [
        json!({ "keys": [] }),
        json!("<html>"),
        json!({ "keys": [{ "kty": "x" }] }),
    ] {
        *issuer.shown.lock().unwrap() = Some(bad);
        clock.advance(Duration::from_secs(320));
        assert_eq!(status(&door, &token).await, 202);
    }
}

#[tokio::test]
async fn a_crowd_with_new_tokens_fetches_the_keys_once() {
    let (clock, key) = (clock(), JwtKey::es256("k").unwrap());
    let issuer = Issuer::new(&[&key]);
    let door = door(&issuer, &clock, |_| {}).await;
    let tokens: Vec<String> = (0..50)
        .map(|number| key.sign(&claims(&clock, &format!("user {number}"))))
        .collect();
    let all = futures_util::future::join_all(tokens.iter().map(|it| status(&door, it))).await;
    assert!(all.iter().all(|status| *status == 202), "{all:?}");
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn secrets_are_believed_from_a_private_set_only() {
    let clock = clock();
    let (hmac, ec) = (
        JwtKey::hs256("h", SECRET.as_bytes()),
        JwtKey::es256("e").unwrap(),
    );
    let public = Issuer::new(&[&hmac, &ec]);
    let token = hmac.sign(&claims(&clock, "ann"));
    let of_all = door(&public, &clock, |_| {}).await;
    assert_eq!(status(&of_all, &token).await, 401);
    let private = Arc::new(Issuer {
        is_private: true,
        ..Issuer::default()
    });
    private.show(&[&hmac, &ec]);
    let of_few = door(&private, &clock, |_| {}).await;
    assert_eq!(status(&of_few, &token).await, 202);
}

#[tokio::test]
async fn operators_see_what_the_keys_cost() {
    let (clock, key) = (clock(), JwtKey::es256("k").unwrap());
    let issuer = Issuer::new(&[&key]);
    let door = door(&issuer, &clock, |_| {}).await;
    let mut claims = claims(&clock, "ann");
    claims["scope"] = json!("monitoring:read");
    let client = door.anybody().with_token(&key.sign(&claims));
    let caches = client.get("/api/monitoring/cache").await.unwrap();
    let caches = caches.json().unwrap();
    let all = caches["caches"].as_array().unwrap();
    let jwks = all.iter().find(|it| it["name"] == "jwks").unwrap();
    assert_eq!(
        (&jwks["loads"], &jwks["shared"]),
        (&json!(1), &json!(false))
    );
}
