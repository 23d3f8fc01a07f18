//! Tokens: who gets in, and who does not.

use std::time::Duration;

use ratebox_kit::{Clock, Quota, Stopwatch};
use ratebox_testkit::{Answer, wait_until};

use crate::door::{
    BATCH, BULK, Door, IMPORT, IMPORT_CANCEL, IMPORT_STATUS, ITEM, STATUS, VALIDATE, a_while_ago,
    code_of, post, post_with,
};

async fn with_authorization(door: &Door, value: &str) -> Answer {
    post_with(
        &door.anybody(),
        VALIDATE,
        &[("authorization", value)],
        ITEM.as_bytes(),
    )
    .await
}

#[tokio::test]
async fn without_a_token_nobody_gets_in() {
    let door = Door::open().await;
    for path in [VALIDATE, BATCH, IMPORT, BULK] {
        let answer = post(&door.anybody(), path, ITEM.as_bytes()).await;
        assert_eq!(
            (answer.status, code_of(&answer).as_str()),
            (401, "auth.missing")
        );
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Bearer realm=\"ratebox\"")
        );
    }
    for base in [STATUS, IMPORT_STATUS] {
        let id = ratebox_kit::id::new();
        assert_eq!(
            door.anybody()
                .get(&format!("{base}{id}"))
                .await
                .unwrap()
                .status,
            401
        );
    }
}

#[tokio::test]
async fn every_refused_token_gets_the_same_answer() {
    let door = Door::with(|plan| plan.settings.auth.failures = Quota::per_minute(1000)).await;
    let good = door.token("ann", &["admin"]).await;
    let clock = Clock::system();
    let expired = door
        .make_token("ann", &["admin"], |new| {
            new.expires_at = Some(a_while_ago(&clock))
        })
        .await;
    let (start, _) = good.rsplit_once('_').unwrap();
    let oversized = format!("Bearer {}", "x".repeat(9 * 1024));
    // The head of a token without a signature, with one by nobody, and one that points elsewhere.
    let unsigned = "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiIsImV4cCI6OTk5OTk5OTk5OX0.";
    let elsewhere = "Bearer eyJhbGciOiJSUzI1NiIsImprdSI6Imh0dHA6Ly8xMjcuMC4wLjEvIn0.e30.AAAA";
    let wrong: Vec<String> = vec![
        format!("Bearer {start}_{}", "0".repeat(64)),
        format!("Bearer rb_test_{}_{}", "0".repeat(16), "0".repeat(64)),
        format!("Bearer {expired}"),
        format!("Bearer {good}x"),
        format!("Bearer {}", good.replacen("rb_test_", "rb_live_", 1)),
        format!("Basic {good}"),
        good.clone(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "Bearer ' OR 1=1 --".to_owned(),
        "Bearer rb_live_../../etc_x".to_owned(),
        unsigned.to_owned(),
        elsewhere.to_owned(),
        oversized,
    ];
    let mut bodies = Vec::new();
    for value in &wrong {
        let answer = with_authorization(&door, value).await;
        assert_eq!(answer.status, 401, "{}", answer.text());
        bodies.push(answer.body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1);
    assert_eq!(
        with_authorization(&door, &format!("bearer {good}"))
            .await
            .status,
        202
    );
    let twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
    assert_eq!(
        post_with(&door.anybody(), VALIDATE, &twice, ITEM.as_bytes())
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn a_revoked_token_is_refused_within_five_seconds() {
    let door = Door::open().await;
    let token = door.token("ann", &["create"]).await;
    let client = door.anybody().with_token(&token);
    assert_eq!(post(&client, VALIDATE, ITEM.as_bytes()).await.status, 202);
    let id = token.split('_').nth(2).unwrap();
    assert!(door.store.revoke_token(id).await.unwrap());
    let watch = Stopwatch::start();
    wait_until(Duration::from_secs(6), "the token is refused", || async {
        post(&client, VALIDATE, ITEM.as_bytes()).await.status == 401
    })
    .await;
    assert!(
        watch.elapsed() < Duration::from_millis(5500),
        "{:?}",
        watch.elapsed()
    );
}

#[tokio::test]
async fn a_token_expires_while_it_is_remembered() {
    let clock = Clock::manual(Clock::system().now());
    let held = clock.clone();
    let door = Door::with(|plan| plan.clock = held).await;
    let end = clock.now() + Duration::from_secs(60);
    let token = door
        .make_token("ann", &["create"], |new| new.expires_at = Some(end))
        .await;
    let client = door.anybody().with_token(&token);
    assert_eq!(post(&client, VALIDATE, ITEM.as_bytes()).await.status, 202);
    clock.advance(Duration::from_secs(60));
    assert_eq!(post(&client, VALIDATE, ITEM.as_bytes()).await.status, 401);
}

#[tokio::test]
async fn each_route_needs_its_scope() {
    let door = Door::open().await;
    let id = ratebox_kit::id::new();
    let routes = [
        ("POST", VALIDATE.to_owned(), "validation:write"),
        ("POST", BATCH.to_owned(), "validation:write"),
        ("GET", format!("{STATUS}{id}"), "validation:read"),
        ("POST", IMPORT.to_owned(), "import:write"),
        ("POST", BULK.to_owned(), "import:write"),
        ("GET", format!("{IMPORT_STATUS}{id}"), "import:read"),
        ("POST", format!("{IMPORT_CANCEL}{id}"), "import:write"),
    ];
    let scopes = [
        "validation:read",
        "validation:write",
        "import:read",
        "import:write",
        "monitoring:read",
        "monitoring:write",
        "admin",
        "find",
        "create",
    ];
    for scope in scopes {
        let token = door.token("ann", &[scope]).await;
        let client = door.anybody().with_token(&token);
        for (method, path, needed) in &routes {
            let headers = [("content-type", "application/json")];
            let body: &[u8] = if *method == "POST" { b"[]" } else { b"" };
            let answer = client.request(method, path, &headers, body).await.unwrap();
            let may = scope == *needed
                || scope == "admin"
                || (scope == "find" && needed.ends_with("read"))
                || (scope == "create" && needed.ends_with("write"));
            assert_eq!(answer.status != 403, may, "{scope} {method} {path}");
            if !may {
                assert_eq!(code_of(&answer), "scope.missing");
                let challenge = answer.header("www-authenticate").unwrap();
                assert!(challenge.contains("insufficient_scope"), "{challenge}");
            }
        }
    }
    assert_eq!(door.requests().await, 0);
}

#[tokio::test]
async fn a_token_in_the_query_is_refused_even_beside_a_good_one() {
    let door = Door::open().await;
    let token = door.token("ann", &["admin"]).await;
    let client = door.anybody().with_token(&token);
    for query in [
        format!("token={token}"),
        format!("x={token}"),
        "access_token=abc".to_owned(),
    ] {
        let answer = post(&client, &format!("{VALIDATE}?{query}"), ITEM.as_bytes()).await;
        assert_eq!(
            (answer.status, code_of(&answer).as_str()),
            (401, "auth.token_in_query")
        );
    }
}

#[tokio::test]
async fn a_flood_of_wrong_tokens_from_one_address_is_slowed_down() {
    let door = Door::with(|plan| plan.settings.auth.failures = Quota::per_minute(20)).await;
    let good = door.token("ann", &["create"]).await;
    let client = door.anybody().with_token(&good);
    assert_eq!(post(&client, VALIDATE, ITEM.as_bytes()).await.status, 202);
    let mut statuses = Vec::new();
    for number in 0..300 {
        let wrong = format!("Bearer rb_test_{number:016x}_{}", "0".repeat(64));
        // The header of a proxy is anybody's to write.
        let forwarded = format!("192.0.2.{}", number % 250);
        let headers = [
            ("authorization", wrong.as_str()),
            ("x-forwarded-for", &forwarded),
        ];
        let answer = post_with(&door.anybody(), VALIDATE, &headers, ITEM.as_bytes()).await;
        if answer.status == 429 {
            assert_eq!(code_of(&answer), "auth.too_many_failures");
            assert!(answer.header("retry-after").is_some());
        }
        statuses.push(answer.status);
    }
    assert!(statuses[..15].iter().all(|status| *status == 401));
    assert!(
        statuses[60..]
            .iter()
            .filter(|status| **status == 429)
            .count()
            > 200
    );
    // Who is known already is let in all the same.
    assert_eq!(post(&client, VALIDATE, ITEM.as_bytes()).await.status, 202);
}

#[tokio::test]
async fn tokens_cannot_be_checked_while_the_store_is_away() {
    let door = Door::open().await;
    let token = door.token("ann", &["create"]).await;
    door.execute("ALTER TABLE api_tokens RENAME TO gone").await;
    let answer = post(
        &door.anybody().with_token(&token),
        VALIDATE,
        ITEM.as_bytes(),
    )
    .await;
    assert_eq!(
        (answer.status, code_of(&answer).as_str()),
        (503, "auth.unavailable")
    );
    assert!(answer.header("retry-after").is_some());
    for word in ["api_tokens", "SELECT", "sqlite", "table"] {
        assert!(!answer.text().contains(word), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_new_token_may_come_over_many_connections_at_once() {
    let door = Door::with(|plan| plan.settings.auth.failures = Quota::per_minute(5)).await;
    let client = door.client("ann").await;
    let posts = (0..100).map(|_| post(&client, VALIDATE, ITEM.as_bytes()));
    let answers = futures_util::future::join_all(posts).await;
    assert!(answers.iter().all(|answer| answer.status == 202));
}
