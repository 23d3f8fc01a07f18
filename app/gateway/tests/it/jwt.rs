//! Tokens that others sign: who gets in, who does not, and what happens to the keys meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ratebox_gateway::{JwksSource, JwtAlgorithm, JwtSettings};
use ratebox_kit::{Clock, PortError, Quota, Secret};
use ratebox_testkit::{Answer, JwtKey, base64url};
use serde_json::{Value, json};

use crate::door::{
    BATCH, BULK, Door, IMPORT, IMPORT_STATUS, ITEM, STATUS, VALIDATE, code_of, id_of, post,
};

const ISSUER: &str = "https://issuer.example";
const SECRET: &str = "a secret of the tests, of 32 bytes and more";

/// Who signs tokens and shows keys.
#[derive(Debug, Default)]
struct Issuer {
    shown: Mutex<Option<Value>>,
    is_private: bool,
    asked: AtomicU64,
}

impl Issuer {
    fn new(keys: &[&JwtKey]) -> Arc<Self> {
        let issuer = Self::default();
        issuer.show(keys);
        Arc::new(issuer)
    }

    fn show(&self, keys: &[&JwtKey]) {
        *self.shown.lock().unwrap() = Some(JwtKey::set(keys));
    }

    fn go_away(&self) {
        *self.shown.lock().unwrap() = None;
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl JwksSource for Issuer {
    async fn fetch(&self) -> Result<Bytes, PortError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let shown = self.shown.lock().unwrap().as_ref().map(Value::to_string);
        let away = || PortError::new("the issuer is away", std::io::Error::other("away"));
        shown.map(Bytes::from).ok_or_else(away)
    }

    fn is_private(&self) -> bool {
        self.is_private
    }
}

fn settings(issuer: &Arc<Issuer>) -> JwtSettings {
    JwtSettings {
        issuer: ISSUER.to_owned(),
        audiences: vec!["ratebox".to_owned()],
        jwks: Some(Arc::clone(issuer) as _),
        ..JwtSettings::default()
    }
}

/// A door that believes the issuer, by a clock that is moved by hand; nothing is remembered of
/// tokens, so that each request asks for its key.
async fn door(issuer: &Arc<Issuer>, clock: &Clock, change: impl FnOnce(&mut JwtSettings)) -> Door {
    let mut jwt = settings(issuer);
    change(&mut jwt);
    let clock = clock.clone();
    Door::with(move |plan| {
        plan.clock = clock;
        plan.settings.auth.cache_max_age = Duration::ZERO;
        plan.settings.auth.failures = Quota::per_minute(1000);
        plan.settings.auth.jwt = Some(jwt);
    })
    .await
}

fn clock() -> Clock {
    Clock::manual(Clock::system().now())
}

fn claims(clock: &Clock, subject: &str) -> Value {
    json!({
        "iss": ISSUER, "aud": "ratebox", "sub": subject, "scope": "find create",
        "exp": clock.now().as_second() + 3600,
    })
}

async fn come(door: &Door, token: &str) -> Answer {
    post(&door.anybody().with_token(token), VALIDATE, ITEM.as_bytes()).await
}

async fn status(door: &Door, token: &str) -> u16 {
    come(door, token).await.status
}

fn refused(answer: &Answer) -> (u16, String) {
    (answer.status, code_of(answer))
}

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
