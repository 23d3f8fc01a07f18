//! Who gets in by a token that others signed, and who does not.

use std::time::Duration;

use ratebox_gateway::{JwtAlgorithm, JwtSettings};
use ratebox_kit::{Quota, Secret};
use ratebox_testkit::{JwtKey, base64url};
use serde_json::{Value, json};

use super::{ISSUER, Issuer, SECRET, claims, clock, come, door, refused, settings, status};
use crate::door::{BATCH, BULK, Door, IMPORT, IMPORT_STATUS, ITEM, STATUS, VALIDATE, id_of, post};

#[tokio::test]
async fn tokens_of_every_algorithm_open_the_door() {
    let (clock, rsa) = (clock(), JwtKey::rs256("rsa", 2048).unwrap());
    let (ec, ed) = (JwtKey::es256("ec").unwrap(), JwtKey::eddsa("ed").unwrap());
    let issuer = Issuer::new(&[&rsa, &ec, &ed]);
    let secret = |it: &mut JwtSettings| it.secret = Some(Secret::new(SECRET));
    let door = door(&issuer, &clock, secret).await;
    let shared = JwtKey::hs256("any name", SECRET.as_bytes());
    for key in [&rsa, &ec, &ed, &shared] {
        let algorithm = key.algorithm();
        let token = key.sign(&claims(&clock, "ann"));
        assert_eq!(status(&door, &token).await, 202, "{algorithm}");
        // There is one key of each kind, so none has to be named.
        let bare = key.sign_with(&json!({ "alg": algorithm }), &claims(&clock, "ann"));
        assert_eq!(status(&door, &bare).await, 202, "{algorithm}");
    }
    assert_eq!(issuer.asked(), 1);
    // API tokens are taken beside them.
    let token = door.token("ann", &["create"]).await;
    assert_eq!(status(&door, &token).await, 202);
}

/// Tokens of whoever has one good token, or keys of his own.
fn forged_from(ec: &JwtKey, good: &Value, admin: &Value) -> Vec<String> {
    let other = JwtKey::es256("ec").unwrap();
    let token = ec.sign(good);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (start, _) = signed.rsplit_once('.').unwrap();
    let admin = base64url(admin.to_string().as_bytes());
    let unsigned = |alg: &str| {
        let head = json!({ "alg": alg, "kid": "ec" }).to_string();
        format!("{}.{admin}.", base64url(head.as_bytes()))
    };
    let brings = |name: &str, value: Value| {
        let mut head = json!({ "alg": "ES256", "kid": "ec" });
        head[name] = value;
        other.sign_with(&head, good)
    };
    vec![
        format!("{start}.{admin}.{signature}"),
        format!("{signed}."),
        format!("{signed}.{}", "A".repeat(86)),
        format!("{token}x"),
        format!("{token}.x"),
        unsigned("none"),
        unsigned("None"),
        format!("{}AAAA", unsigned("none")),
        other.sign(good),
        brings("jwk", other.jwk()),
        brings("jku", json!("http://127.0.0.1:9/")),
        brings("x5c", json!(["AAAA"])),
    ]
}

/// Tokens whose head and key do not agree, or whose head asks for what is not given.
fn confused(rsa: &JwtKey, ec: &JwtKey, good: &Value) -> Vec<String> {
    let head = |alg: &str, kid: &str| json!({ "alg": alg, "kid": kid });
    let with = |name: &str, value: Value| {
        let mut head = head("ES256", "ec");
        head[name] = value;
        ec.sign_with(&head, good)
    };
    // The public key as the secret: what whoever checks by the head's word falls for.
    let modulus = rsa.jwk()["n"].as_str().unwrap().to_owned();
    let by_public_key = |secret: &str| JwtKey::hs256("rsa", secret.as_bytes()).sign(good);
    vec![
        by_public_key(&modulus),
        by_public_key(&rsa.jwk().to_string()),
        ec.sign_with(&head("RS256", "ec"), good),
        ec.sign_with(&head("EdDSA", "ec"), good),
        rsa.sign_with(&head("RS512", "rsa"), good),
        rsa.sign_with(&head("PS256", "rsa"), good),
        rsa.sign_with(&head("RS256", "ec"), good),
        with("kid", json!("../../etc/passwd")),
        with("kid", json!("' OR 1=1 --")),
        with("kid", json!("k".repeat(300))),
        with("kid", json!(["ec"])),
        with("crit", json!(["exp"])),
        with("typ", json!("logout+jwt")),
        with("b64", json!(false)),
    ]
}

#[tokio::test]
async fn a_forged_token_is_refused_without_a_reason() {
    let (clock, rsa) = (clock(), JwtKey::rs256("rsa", 2048).unwrap());
    let ec = JwtKey::es256("ec").unwrap();
    let (one, two) = (JwtKey::eddsa("1").unwrap(), JwtKey::eddsa("2").unwrap());
    let issuer = Issuer::new(&[&rsa, &ec, &one, &two]);
    let door = door(&issuer, &clock, |_| {}).await;
    let good = claims(&clock, "ann");
    let mut forged = forged_from(&ec, &good, &claims(&clock, "admin"));
    forged.extend(confused(&rsa, &ec, &good));
    // Another key than the one that is named; and none is named, where two would fit.
    forged.push(one.sign_with(&json!({ "alg": "EdDSA", "kid": "2" }), &good));
    forged.push(one.sign_with(&json!({ "alg": "EdDSA" }), &good));
    let mut bodies = Vec::new();
    for token in &forged {
        let answer = come(&door, token).await;
        assert_eq!(
            refused(&answer),
            (401, "auth.refused".to_owned()),
            "{token}"
        );
        let challenge = answer.header("www-authenticate").unwrap();
        assert_eq!(
            challenge,
            r#"Bearer realm="ratebox", error="invalid_token""#
        );
        bodies.push(answer.body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1);
    assert_eq!(door.requests().await, 0);
    assert_eq!(status(&door, &ec.sign(&good)).await, 202);
    // Two names that nobody knows, within the same ten seconds.
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn claims_that_are_not_for_us_are_refused() {
    let (clock, key) = (clock(), JwtKey::eddsa("k").unwrap());
    let issuer = Issuer::new(&[&key]);
    let door = door(&issuer, &clock, |_| {}).await;
    let now = clock.now().as_second();
    let wrong = [
        ("iss", json!("https://other.example")),
        ("iss", json!([ISSUER])),
        ("iss", Value::Null),
        ("aud", json!("other")),
        ("aud", json!([])),
        ("aud", Value::Null),
        ("exp", Value::Null),
        ("exp", json!("9999999999")),
        ("exp", json!(-1)),
        ("nbf", json!(now + 31)),
        ("nbf", json!("0")),
        ("sub", Value::Null),
        ("sub", json!("")),
        ("sub", json!({ "id": 1 })),
    ];
    for (name, value) in wrong {
        let mut claims = claims(&clock, "ann");
        claims[name] = value.clone();
        let answer = come(&door, &key.sign(&claims)).await;
        assert_eq!(refused(&answer).1, "auth.refused", "{name}: {value}");
        claims.as_object_mut().unwrap().remove(name);
        let missing = status(&door, &key.sign(&claims)).await;
        assert_eq!(
            missing,
            if name == "nbf" { 202 } else { 401 },
            "{name} is missing"
        );
    }
    for (name, value) in [("aud", json!(["x", "ratebox"])), ("nbf", json!(now + 30))] {
        let mut claims = claims(&clock, "ann");
        claims[name] = value;
        assert_eq!(status(&door, &key.sign(&claims)).await, 202, "{name}");
    }
}

#[tokio::test]
async fn an_expired_token_is_told_so_and_a_forged_one_is_not() {
    let (clock, key) = (clock(), JwtKey::eddsa("k").unwrap());
    let issuer = Issuer::new(&[&key]);
    let door = door(&issuer, &clock, |_| {}).await;
    let mut claims = claims(&clock, "ann");
    claims["exp"] = json!(clock.now().as_second() + 100);
    let token = key.sign(&claims);
    clock.advance(Duration::from_secs(129));
    assert_eq!(status(&door, &token).await, 202, "the leeway is 30 s");
    clock.advance(Duration::from_secs(1));
    let answer = come(&door, &token).await;
    assert_eq!(refused(&answer), (401, "auth.expired".to_owned()));
    assert!(
        answer
            .header("www-authenticate")
            .unwrap()
            .contains("invalid_token")
    );
    let forged = JwtKey::eddsa("k").unwrap().sign(&claims);
    assert_eq!(refused(&come(&door, &forged).await).1, "auth.refused");
}

#[tokio::test]
async fn a_token_that_is_remembered_ends_in_time_and_costs_one_check() {
    let (clock, key) = (clock(), JwtKey::eddsa("k").unwrap());
    let issuer = Issuer::new(&[&key]);
    let (held, jwt) = (clock.clone(), settings(&issuer));
    let door = Door::with(move |plan| {
        plan.clock = held;
        plan.settings.auth.cache_max_age = Duration::from_secs(3600);
        plan.settings.auth.jwt = Some(jwt);
    })
    .await;
    let token = key.sign(&claims(&clock, "ann"));
    assert_eq!(status(&door, &token).await, 202);
    // Remembered: neither the issuer nor the key is needed any more.
    issuer.go_away();
    clock.advance(Duration::from_secs(3600 + 29));
    assert_eq!(status(&door, &token).await, 202);
    assert_eq!(issuer.asked(), 1);
    clock.advance(Duration::from_secs(1));
    // Ended tokens are nobody's guesses: however many come, nobody is shut out.
    for _ in 0..60 {
        assert_eq!(refused(&come(&door, &token).await).1, "auth.expired");
    }
}

#[tokio::test]
async fn subjects_see_their_own_only_and_never_that_of_an_api_token() {
    let (clock, key) = (clock(), JwtKey::es256("k").unwrap());
    let issuer = Issuer::new(&[&key]);
    let door = door(&issuer, &clock, |_| {}).await;
    let ann = door.anybody().with_token(&key.sign(&claims(&clock, "ann")));
    let bob = door.anybody().with_token(&key.sign(&claims(&clock, "bob")));
    let api = door.client("ann").await;
    let of_ann = id_of(&post(&ann, VALIDATE, ITEM.as_bytes()).await);
    let of_api = id_of(&post(&api, VALIDATE, ITEM.as_bytes()).await);
    let may = async |client: &ratebox_testkit::HttpClient, id: &str| {
        client.get(&format!("{STATUS}{id}")).await.unwrap().status
    };
    assert_eq!(may(&ann, &of_ann).await, 200);
    assert_eq!(may(&bob, &of_ann).await, 404);
    assert_eq!(may(&api, &of_ann).await, 404);
    assert_eq!(may(&ann, &of_api).await, 404);
    assert_eq!(may(&api, &of_api).await, 200);
    // Another token of the same subject is the same account.
    let mut later = claims(&clock, "ann");
    later["exp"] = json!(clock.now().as_second() + 7200);
    let again = door.anybody().with_token(&key.sign(&later));
    assert_eq!(may(&again, &of_ann).await, 200);
    let owners = door
        .count("SELECT count(DISTINCT owner) FROM validation_requests")
        .await;
    assert_eq!(owners, 2);
}

#[tokio::test]
async fn an_api_token_may_be_made_for_the_account_of_a_subject() {
    let (clock, key) = (clock(), JwtKey::es256("k").unwrap());
    let issuer = Issuer::new(&[&key]);
    let door = door(&issuer, &clock, |_| {}).await;
    let ann = door.anybody().with_token(&key.sign(&claims(&clock, "ann")));
    let id = id_of(&post(&ann, VALIDATE, ITEM.as_bytes()).await);
    let api = door.client("jwt:ann").await;
    let answer = api.get(&format!("{STATUS}{id}")).await.unwrap();
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn scopes_of_a_token_open_the_routes_that_they_name() {
    let (clock, key) = (clock(), JwtKey::es256("k").unwrap());
    let issuer = Issuer::new(&[&key]);
    let door = door(&issuer, &clock, |_| {}).await;
    let id = ratebox_kit::id::new();
    let routes = [
        ("POST", VALIDATE.to_owned(), "validation:write"),
        ("POST", BATCH.to_owned(), "validation:write"),
        ("GET", format!("{STATUS}{id}"), "validation:read"),
        ("POST", IMPORT.to_owned(), "import:write"),
        ("POST", BULK.to_owned(), "import:write"),
        ("GET", format!("{IMPORT_STATUS}{id}"), "import:read"),
        ("GET", "/api/monitoring/dlq".to_owned(), "monitoring:read"),
    ];
    let words: [(Value, &[&str]); 9] = [
        (json!("validation:write"), &["validation:write"]),
        (json!("openid import:read profile"), &["import:read"]),
        (json!("find"), &["validation:read", "import:read"]),
        (json!(["create"]), &["validation:write", "import:write"]),
        (
            json!("api::validation.validation.find"),
            &["validation:read"],
        ),
        (json!(["importer.create"]), &["import:write"]),
        (json!("monitoring:read"), &["monitoring:read"]),
        // Only where the settings say so.
        (json!("admin"), &[]),
        (Value::Null, &[]),
    ];
    for (scope, opened) in words {
        let mut claims = claims(&clock, "ann");
        claims["scope"] = scope.clone();
        let client = door.anybody().with_token(&key.sign(&claims));
        for (method, path, needed) in &routes {
            let kind = [("content-type", "application/json")];
            let body: &[u8] = if *method == "POST" { b"[]" } else { b"" };
            let answer = client.request(method, path, &kind, body).await.unwrap();
            let may = opened.contains(needed);
            assert_eq!(answer.status != 403, may, "{scope} {method} {path}");
            assert_ne!(answer.status, 401);
        }
    }
}

#[tokio::test]
async fn an_administrator_by_jwt_needs_a_setting() {
    let (clock, key) = (clock(), JwtKey::es256("k").unwrap());
    let issuer = Issuer::new(&[&key]);
    let mut claims = claims(&clock, "ann");
    claims["scope"] = json!("admin");
    let trusting = door(&issuer, &clock, |it| it.allow_admin = true).await;
    assert_eq!(status(&trusting, &key.sign(&claims)).await, 202);
    let careful = door(&issuer, &clock, |_| {}).await;
    let answer = come(&careful, &key.sign(&claims)).await;
    assert_eq!(refused(&answer), (403, "scope.missing".to_owned()));
}

#[tokio::test]
async fn limits_count_subjects_and_not_their_tokens() {
    let (clock, key) = (clock(), JwtKey::es256("k").unwrap());
    let issuer = Issuer::new(&[&key]);
    let (held, jwt) = (clock.clone(), settings(&issuer));
    let door = Door::with(move |plan| {
        plan.clock = held;
        plan.settings.auth.jwt = Some(jwt);
        plan.settings.limits.validate = Quota::per_minute(4);
        plan.settings.limits.import = Quota::per_minute(4);
    })
    .await;
    for path in [VALIDATE, IMPORT] {
        let mut statuses = Vec::new();
        for number in 0..6 {
            let mut claims = claims(&clock, "ann");
            claims["jti"] = json!(format!("{path} {number}"));
            let client = door.anybody().with_token(&key.sign(&claims));
            statuses.push(post(&client, path, ITEM.as_bytes()).await.status);
        }
        assert_eq!(statuses, [202, 202, 202, 202, 429, 429], "{path}");
        let bob = door.anybody().with_token(&key.sign(&claims(&clock, "bob")));
        assert_eq!(post(&bob, path, ITEM.as_bytes()).await.status, 202);
    }
}

#[tokio::test]
async fn an_algorithm_that_is_not_allowed_is_refused_whatever_the_key() {
    let clock = clock();
    let (ec, ed) = (JwtKey::es256("e").unwrap(), JwtKey::eddsa("d").unwrap());
    let issuer = Issuer::new(&[&ec, &ed]);
    let only = |it: &mut JwtSettings| it.algorithms = vec![JwtAlgorithm::EdDsa];
    let door = door(&issuer, &clock, only).await;
    assert_eq!(status(&door, &ed.sign(&claims(&clock, "ann"))).await, 202);
    assert_eq!(status(&door, &ec.sign(&claims(&clock, "ann"))).await, 401);
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn a_token_may_be_long_but_not_longer_than_the_limit() {
    let (clock, key) = (clock(), JwtKey::es256("k").unwrap());
    let issuer = Issuer::new(&[&key]);
    let door = door(&issuer, &clock, |_| {}).await;
    let of_length = |bytes: usize| {
        let mut claims = claims(&clock, "ann");
        claims["groups"] = json!("g".repeat(bytes));
        key.sign(&claims)
    };
    assert_eq!(status(&door, &of_length(5_000)).await, 202);
    let long = of_length(7_000);
    assert!(long.len() > 8192);
    assert_eq!(status(&door, &long).await, 401);
}

#[tokio::test]
async fn forged_tokens_from_one_address_are_slowed_down_and_known_ones_are_not() {
    let (clock, key) = (clock(), JwtKey::es256("k").unwrap());
    let issuer = Issuer::new(&[&key]);
    let jwt = settings(&issuer);
    let door = Door::with(move |plan| {
        plan.settings.auth.failures = Quota::per_minute(20);
        plan.settings.auth.jwt = Some(jwt);
    })
    .await;
    let good = key.sign(&claims(&clock, "ann"));
    assert_eq!(status(&door, &good).await, 202);
    let stranger = JwtKey::es256("k").unwrap();
    let mut statuses = Vec::new();
    for number in 0..100 {
        let forged = stranger.sign(&claims(&clock, &format!("{number}")));
        statuses.push(status(&door, &forged).await);
    }
    assert!(statuses[..15].iter().all(|status| *status == 401));
    assert!(
        statuses[50..].iter().filter(|it| **it == 429).count() > 40,
        "{statuses:?}"
    );
    assert_eq!(status(&door, &good).await, 202);
}
