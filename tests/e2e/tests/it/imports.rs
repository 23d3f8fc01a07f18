//! Bulk imports from outside: taken, followed, cancelled, and finished by another process.

use std::time::Duration;

use ratebox_testkit::{HttpClient, Ratebox, wait_for, wait_until};
use serde_json::{Value, json};

use crate::place::{Place, ready};

const BULK: &str = "/api/importer/bulk";
/// Patience of every wait, in a debug build on a loaded machine.
const SOON: Duration = Duration::from_secs(60);

/// A dataset of `n` items, of which every third lacks its bank account.
fn dataset(name: &str, n: usize) -> Value {
    let item = |i: usize| match i % 3 {
        2 => json!({"phone": "0912345678"}),
        _ => json!({"phone": "0912345678", "bank_account": "12345678901"}),
    };
    json!({"id": name, "items": (0..n).map(item).collect::<Vec<_>>()})
}

async fn take(http: &HttpClient, datasets: &[Value]) -> String {
    let body = json!({ "datasets": datasets });
    let answer = http.post_json(BULK, &body).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    let location = answer.header("location").unwrap().to_owned();
    let import = answer.json().unwrap()["import_id"].clone();
    assert!(location.ends_with(import.as_str().unwrap()), "{location}");
    location
}

async fn status(http: &HttpClient, location: &str) -> Value {
    let answer = http.get(location).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json().unwrap()
}

async fn cancel(http: &HttpClient, location: &str) -> u16 {
    let path = location.replace("status", "cancel");
    http.request("POST", &path, &[], b"").await.unwrap().status
}

/// Waits for the end.
async fn ended(http: &HttpClient, location: &str) -> Value {
    wait_for(SOON, "the import ends", || async {
        let now = status(http, location).await;
        let is_open = matches!(now["status"].as_str(), Some("queued" | "processing"));
        (!is_open).then_some(now)
    })
    .await
}

/// A small and a large import on one process.
async fn both_sizes(ratebox: &Ratebox) {
    let http = ratebox.admin().unwrap();
    for (a, b) in [(30, 6), (2400, 600)] {
        let location = take(&http, &[dataset("a", a), dataset("b", b)]).await;
        // The end is told to who waits; a slow machine may need another wait.
        let whole = wait_for(SOON, "the import ends", || async {
            let now = status(&http, &format!("{location}?wait=10")).await;
            now["finished_at"].is_string().then_some(now)
        })
        .await;
        assert_eq!(whole["status"], "partial", "{whole}");
        let (all, failed) = (a + b, (a + b) / 3);
        assert_eq!(whole["items_done"], all);
        assert_eq!(
            whole["verdicts"],
            json!({"DONE": all - failed, "ERROR": failed})
        );
        assert_eq!(whole["codes"], json!([{"code": 200, "count": failed}]));
        assert_eq!(whole["datasets"][1]["verdicts"]["ERROR"], b / 3);
        let first = whole["datasets"][0]["request_ids"][0].as_str().unwrap();
        let of_request = status(&http, &format!("/api/importer/status/{first}")).await;
        assert_eq!(of_request["status"], "partial");
        assert_eq!(cancel(&http, &location).await, 409);
    }
    assert_eq!(cancel(&http, "/api/importer/status/0197-no").await, 404);
}

#[tokio::test]
async fn imports_of_both_sizes_are_followed_to_their_end_embedded() {
    let ratebox = ready(Ratebox::up(|it| it.arg("--no-sample")).unwrap()).await;
    both_sizes(&ratebox).await;
}

#[tokio::test]
async fn imports_of_both_sizes_are_followed_to_their_end_on_redis_and_postgresql() {
    let place = Place::new();
    let mut ratebox = place.up().await;
    both_sizes(&ratebox).await;
    assert_eq!(place.count("count(*) FROM raw_items"), 3036);
    wait_until(SOON, "6 requests and 2 imports are told", || async {
        place
            .redis
            .command(&["XLEN", "importer_responses"])
            .unwrap()
            == json!(8)
    })
    .await;
    assert_eq!(ratebox.terminate().await.unwrap(), 0, "{}", ratebox.logs());
}

#[tokio::test]
async fn an_import_whose_relay_is_killed_is_finished_by_another_and_each_item_is_judged_once() {
    let place = Place::new();
    let token = place.token();
    let gateway = ready(Ratebox::gateway(|it| place.on(it)).unwrap()).await;
    let http = gateway.client().with_token(&token);
    let mut first = place.relay();
    let mut locations = Vec::new();
    for n in 0..4 {
        let sets: Vec<Value> = (0..5)
            .map(|at| dataset(&format!("{n}-{at}"), 1200))
            .collect();
        locations.push(take(&http, &sets).await);
    }
    wait_until(SOON, "the imports are cut", || async {
        place.count("count(*) FROM validation_requests") == 40
    })
    .await;
    let _worker = place.worker();
    wait_until(SOON, "some are counted", || async {
        place.count("count(*) FROM import_parts WHERE state IS NOT NULL") > 0
    })
    .await;
    first.kill9();
    let _second = place.relay();
    for location in &locations {
        let whole = ended(&http, location).await;
        assert_eq!(
            (&whole["status"], &whole["items_done"]),
            (&json!("partial"), &json!(6000))
        );
        assert_eq!(whole["verdicts"], json!({"DONE": 4000, "ERROR": 2000}));
    }
    assert_eq!(place.count("count(*) FROM raw_items"), 24_000);
    assert_eq!(place.count("count(*) FROM validation_requests"), 40);
    wait_until(SOON, "each end is told once", || async {
        place.count("count(*) FROM sagas WHERE status = 'completed'") == 4
    })
    .await;
}

#[tokio::test]
async fn a_relay_that_is_killed_before_the_cut_loses_nothing() {
    let place = Place::new();
    let token = place.token();
    let gateway = ready(Ratebox::gateway(|it| place.on(it)).unwrap()).await;
    let http = gateway.client().with_token(&token);
    let _worker = place.worker();
    let mut locations = Vec::new();
    for _ in 0..4 {
        // It dies at a moment of its own each time: while it starts, looks, cuts or follows.
        let mut doomed = place.relay();
        locations.push(take(&http, &[dataset("a", 1500)]).await);
        let sagas = i64::try_from(locations.len()).unwrap();
        wait_until(SOON, "the import is looked after", || async {
            place.count("count(*) FROM sagas") >= sagas
        })
        .await;
        doomed.kill9();
    }
    let _heir = place.relay();
    for location in &locations {
        assert_eq!(ended(&http, location).await["items_done"], 1500);
    }
    assert_eq!(place.count("count(*) FROM raw_items"), 6000);
}

#[tokio::test]
async fn what_is_cancelled_before_a_worker_comes_is_never_judged() {
    let place = Place::new();
    let token = place.token();
    let gateway = ready(Ratebox::gateway(|it| place.on(it)).unwrap()).await;
    let http = gateway.client().with_token(&token);
    let _relay = place.relay();
    let small = take(&http, &[dataset("a", 5)]).await;
    let large = take(&http, &[dataset("b", 1500)]).await;
    let kept = take(&http, &[dataset("c", 3)]).await;
    for location in [&small, &large] {
        assert_eq!(cancel(&http, location).await, 202);
        let whole = ended(&http, location).await;
        assert_eq!(whole["status"], "cancelled", "{whole}");
        assert_eq!(whole["items_cancelled"], whole["item_count"]);
        assert_eq!(cancel(&http, location).await, 200);
    }
    let _worker = place.worker();
    assert_eq!(ended(&http, &kept).await["items_done"], 3);
    wait_until(SOON, "the bus owes nothing", || async {
        place.count("count(*) FROM outbox") == 0
    })
    .await;
    assert_eq!(place.count("count(*) FROM raw_items"), 3);
    let left = "count(*) FROM validation_requests WHERE state IN ('queued', 'processing')";
    assert_eq!(place.count(left), 0);
}
