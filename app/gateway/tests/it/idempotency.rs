//! Idempotency keys: one effect and one answer for one key.

use std::time::Duration;

use futures_util::future::join_all;
use ratebox_kit::Stopwatch;
use ratebox_testkit::{Answer, HttpClient};

use crate::door::{BATCH, Door, IMPORT, ITEM, VALIDATE, code_of, post_with};

async fn keyed(client: &HttpClient, path: &str, key: &str, body: &str) -> Answer {
    post_with(client, path, &[("idempotency-key", key)], body.as_bytes()).await
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn the_same_key_and_body_get_the_same_answer_and_one_effect() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let first = keyed(&client, VALIDATE, "k1", ITEM).await;
    let second = keyed(&client, VALIDATE, "k1", ITEM).await;
    assert_eq!((first.status, second.status), (202, 202));
    assert_eq!(first.body, second.body);
    assert_eq!(first.header("location"), second.header("location"));
    assert_eq!(first.header("idempotency-replayed"), None);
    assert_eq!(second.header("idempotency-replayed"), Some("true"));
    assert_eq!(door.requests().await, 1);

    let batch = r#"{"batches":[{"items":[{}]},{"items":[{}]}]}"#;
    let first = keyed(&client, BATCH, "k2", batch).await;
    let second = keyed(&client, BATCH, "k2", batch).await;
    assert_eq!((first.status, first.body), (202, second.body));
    assert_eq!(door.requests().await, 3);
}

#[tokio::test]
async fn another_body_path_or_owner_is_another_request() {
    let door = Door::open().await;
    let (ann, bob) = (door.client("ann").await, door.client("bob").await);
    assert_eq!(keyed(&ann, VALIDATE, "k", ITEM).await.status, 202);
    for (path, body) in [(VALIDATE, "{\"phone\":\"2\"}"), (IMPORT, ITEM)] {
        let answer = keyed(&ann, path, "k", body).await;
        assert_eq!(
            (answer.status, code_of(&answer).as_str()),
            (422, "idempotency.mismatch")
        );
    }
    let theirs = keyed(&bob, VALIDATE, "k", ITEM).await;
    assert_eq!(
        (theirs.status, theirs.header("idempotency-replayed")),
        (202, None)
    );
    assert_eq!(door.requests().await, 2);
}

#[tokio::test]
async fn concurrent_repetitions_have_one_effect() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    for round in 0..5 {
        let key = format!("k{round}");
        let posts = (0..20).map(|_| keyed(&client, VALIDATE, &key, ITEM));
        let answers = join_all(posts).await;
        let fresh = |it: &&Answer| it.status == 202 && it.header("idempotency-replayed").is_none();
        assert_eq!(answers.iter().filter(fresh).count(), 1);
        assert!(
            answers
                .iter()
                .all(|it| it.status == 202 && it.body == answers[0].body)
        );
        assert_eq!(door.requests().await, round + 1);
    }
}

#[tokio::test]
async fn a_key_is_visible_ascii_of_limited_length() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let (long, longest) = ("x".repeat(256), "x".repeat(255));
    for bad in ["", "a b", "schl\u{fc}ssel", "\t", long.as_str()] {
        let answer = keyed(&client, VALIDATE, bad, ITEM).await;
        assert_eq!(
            (answer.status, code_of(&answer).as_str()),
            (400, "idempotency.malformed"),
            "{bad}"
        );
    }
    let twice = [("idempotency-key", "a"), ("idempotency-key", "b")];
    assert_eq!(
        post_with(&client, VALIDATE, &twice, ITEM.as_bytes())
            .await
            .status,
        400
    );
    assert_eq!(door.requests().await, 0);
    assert_eq!(keyed(&client, VALIDATE, &longest, ITEM).await.status, 202);
}

#[tokio::test]
async fn a_refused_request_does_not_use_its_key_up() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    assert_eq!(keyed(&client, VALIDATE, "k", "{").await.status, 400);
    assert_eq!(keyed(&client, VALIDATE, "k", ITEM).await.status, 202);
}

#[tokio::test]
async fn a_repetition_may_wait_for_the_earlier_requests_answer() {
    // One that is there already is not waited for.
    let door = Door::with(|plan| plan.settings.answers.look_again = HOUR).await;
    let client = door.client("ann").await;
    assert_eq!(keyed(&client, VALIDATE, "k", ITEM).await.status, 202);
    door.published("validation_requests", 1).await;
    door.judge_all(crate::judge::Tell::StoreOnly).await;
    let headers = [("idempotency-key", "k"), ("prefer", "wait=10")];
    let watch = Stopwatch::start();
    let answer = post_with(&client, VALIDATE, &headers, ITEM.as_bytes()).await;
    assert_eq!(
        (answer.status, answer.header("idempotency-replayed")),
        (200, Some("true"))
    );
    assert_eq!(answer.json().unwrap()["status"], "success");
    let took = watch.elapsed();
    assert!(took < Duration::from_secs(5), "it waited: {took:?}");
}
