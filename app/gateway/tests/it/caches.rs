//! What the gateway does not ask the store for again.

use futures_util::future::join_all;
use ratebox_testkit::HttpClient;
use serde_json::Value;

use crate::door::{Door, ITEM, STATUS, VALIDATE, id_of, post};
use crate::judge::Tell;

async fn cache(client: &HttpClient, name: &str) -> Value {
    let answer = client.get("/api/monitoring/cache").await.unwrap();
    let answer = answer.json().unwrap();
    let caches = answer["caches"].as_array().unwrap();
    caches.iter().find(|it| it["name"] == name).unwrap().clone()
}

#[tokio::test]
async fn a_crowd_with_a_token_nobody_has_seen_yet_looks_it_up_once() {
    let door = Door::open().await;
    let ops = door.with_scopes(&["monitoring:read"]).await;
    let before = cache(&ops, "tokens").await["loads"].as_u64().unwrap();
    let token = door.token("ann", &["find"]).await;
    let crowd: Vec<_> = (0..50).map(|_| door.anybody().with_token(&token)).collect();
    let asked = crowd
        .iter()
        .map(|client| client.get("/api/lookup/phone/0912345678"));
    for answer in join_all(asked).await {
        assert_eq!(answer.unwrap().status, 200);
    }
    let after = cache(&ops, "tokens").await;
    let loads = after["loads"].as_u64().unwrap() - before;
    // Whoever came after the first look-up had ended found the token remembered.
    assert!((1..10).contains(&loads), "{after}");
    assert_eq!(after["shared"], false);
    assert_eq!(after["memory_values"], 0, "tokens are not kept twice");
}

#[tokio::test]
async fn a_status_with_a_verdict_is_read_once_and_one_without_each_time() {
    let door = Door::open().await;
    let (client, other) = (door.client("ann").await, door.client("eve").await);
    let ops = door.with_scopes(&["monitoring:read"]).await;
    let id = id_of(&post(&client, VALIDATE, ITEM.as_bytes()).await);
    let path = format!("{STATUS}{id}");
    let status = async |client: &HttpClient| client.get(&path).await.unwrap();
    for _ in 0..3 {
        assert_eq!(status(&client).await.json().unwrap()["status"], "queued");
    }
    assert_eq!(cache(&ops, "statuses").await["memory_values"], 0);
    door.published("validation_requests", 1).await;
    door.judge_all(Tell::StoreOnly).await;
    let first = status(&client).await.json().unwrap();
    assert_eq!(first["status"], "success");
    door.execute("ALTER TABLE validation_requests RENAME TO gone")
        .await;
    assert_eq!(status(&client).await.json().unwrap(), first);
    assert_eq!(status(&other).await.status, 404, "it is somebody else's");
    assert_eq!(cache(&ops, "statuses").await["reads"]["memory"], 2);
}

#[tokio::test]
async fn a_verdict_whose_results_are_gone_is_an_error_and_no_success() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let id = id_of(&post(&client, VALIDATE, ITEM.as_bytes()).await);
    door.published("validation_requests", 1).await;
    door.judge_all(Tell::StoreOnly).await;
    door.execute("DELETE FROM validation_responses").await;
    for path in [STATUS, "/api/importer/status/"] {
        let answer = client.get(&format!("{path}{id}")).await.unwrap();
        assert_eq!(answer.status, 500, "{}", answer.text());
        assert!(!answer.text().contains("success"), "{}", answer.text());
    }
}
