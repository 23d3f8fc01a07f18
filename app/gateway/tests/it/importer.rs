//! Imports: taken as importers send them, how far they are, and told to stop.

use ratebox_gateway::AcceptMode;
use ratebox_intake::decode;
use ratebox_testkit::{Answer, HttpClient};
use serde_json::{Value, json};

use crate::door::{
    BULK, Door, IMPORT, IMPORT_CANCEL, IMPORT_STATUS, code_of, id_of, post, post_with,
};
use crate::judge::Tell;

#[tokio::test]
async fn an_import_goes_to_the_low_lane_and_is_counted() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let good = json!({"phone": "0909123456", "bank_account": "12345678901"});
    let body = json!({"items": [good, {"phone": "1"}, {"phone": "2", "bank_account": "x"}]});
    let answer = client.post_json(IMPORT, &body).await.unwrap();
    let id = id_of(&answer);
    assert_eq!(
        answer.header("location"),
        Some(format!("{IMPORT_STATUS}{id}").as_str())
    );
    let queued = client
        .get(&format!("{IMPORT_STATUS}{id}"))
        .await
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(queued["status"], "queued");
    assert_eq!(
        (&queued["item_count"], &queued["items_done"]),
        (&json!(3), &json!(0))
    );

    door.published("{validation_requests}:low", 1).await;
    let entries = door.bus.entries("{validation_requests}:low").await;
    let request = decode(&entries[0].fields, 10).unwrap();
    assert_eq!(request.source.as_deref(), Some("importer"));
    assert_eq!(request.action.word(), "import");

    door.judge_all(Tell::StoreOnly).await;
    let status = client
        .get(&format!("{IMPORT_STATUS}{id}"))
        .await
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(status["status"], "partial");
    assert_eq!(status["items_done"], 3);
    assert_eq!(status["verdicts"], json!({"DONE": 1, "ERROR": 2}));
    let codes =
        json!([{"code": 101, "count": 2}, {"code": 200, "count": 1}, {"code": 201, "count": 1}]);
    assert_eq!(status["codes"], codes);
}

#[tokio::test]
async fn datasets_are_taken_whole_or_not_at_all() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let body = json!({"datasets": [
        {"id": "a", "source": "checkscam.com", "items": [{"phone": "1"}]},
        {"id": 7, "items": [{"phone": "2"}, {"phone": "3"}]},
    ]});
    let answer = client.post_json(BULK, &body).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    let taken = answer.json().unwrap();
    assert_eq!(taken["item_count"], 3);
    assert_eq!(taken["datasets"][0]["source"], "checkscam.com");
    assert_eq!(taken["datasets"][1]["id"], "7");
    assert_eq!(taken["datasets"][1]["source"], "importer");
    let id = taken["datasets"][1]["request_id"].as_str().unwrap();
    let status = client
        .get(&format!("{IMPORT_STATUS}{id}"))
        .await
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(
        (&status["batch_id"], &status["item_count"]),
        (&json!("7"), &json!(2))
    );
}

/// `n` records in a dataset of this name.
fn dataset(name: &str, n: usize) -> Value {
    json!({"id": name, "items": vec![json!({"phone": "1"}); n]})
}

async fn bulk(client: &HttpClient, datasets: &[Value]) -> Value {
    let body = json!({ "datasets": datasets });
    let answer = client.post_json(BULK, &body).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    let taken = answer.json().unwrap();
    let location = format!("{IMPORT_STATUS}{}", taken["import_id"].as_str().unwrap());
    assert_eq!(answer.header("location"), Some(location.as_str()));
    taken
}

async fn status(client: &HttpClient, id: &Value) -> Value {
    let path = format!("{IMPORT_STATUS}{}", id.as_str().unwrap());
    let answer = client.get(&path).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json().unwrap()
}

async fn cancel(client: &HttpClient, id: &Value) -> Answer {
    let path = format!("{IMPORT_CANCEL}{}", id.as_str().unwrap());
    client.request("POST", &path, &[], b"").await.unwrap()
}

#[tokio::test]
async fn a_small_import_is_on_the_bus_with_its_202() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let taken = bulk(&client, &[dataset("a", 2), dataset("b", 1)]).await;
    assert_eq!(door.requests().await, 2);
    assert_eq!(
        door.count("SELECT count(*) FROM imports WHERE body IS NULL")
            .await,
        1
    );
    door.published("{validation_requests}:low", 2).await;
    let whole = status(&client, &taken["import_id"]).await;
    assert_eq!(
        (&whole["status"], &whole["item_count"]),
        (&json!("queued"), &json!(3))
    );
    assert_eq!(
        whole["datasets"][1]["request_ids"][0],
        taken["datasets"][1]["request_id"]
    );
    // Nobody counts here, yet what is judged is seen.
    door.judge_all(Tell::StoreOnly).await;
    let whole = status(&client, &taken["import_id"]).await;
    assert_eq!(
        (&whole["status"], &whole["items_done"]),
        (&json!("processing"), &json!(3))
    );
    assert_eq!(
        whole["requests"],
        json!({"total": 2, "done": 2, "dead": 0, "cancelled": 0})
    );
    let first = status(&client, &taken["datasets"][0]["request_id"]).await;
    assert_eq!(
        (&first["status"], &first["verdicts"]["ERROR"]),
        (&json!("error"), &json!(2))
    );
}

#[tokio::test]
async fn a_large_import_is_kept_as_it_came_and_its_requests_are_known_at_once() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let taken = bulk(&client, &[dataset("a", 2500), dataset("b", 1)]).await;
    assert_eq!(door.requests().await, 0);
    assert_eq!(
        door.count("SELECT count(*) FROM imports WHERE body IS NOT NULL")
            .await,
        1
    );
    let ids = taken["datasets"][0]["request_ids"].as_array().unwrap();
    assert_eq!(
        (ids.len(), &ids[0]),
        (3, &taken["datasets"][0]["request_id"])
    );
    assert!(taken["datasets"][1]["request_ids"].is_null(), "{taken}");
    let third = status(&client, &ids[2]).await;
    assert_eq!(
        (&third["status"], &third["item_count"]),
        (&json!("queued"), &json!(500))
    );
    assert_eq!(third["batch_id"], "a");
    let whole = status(&client, &taken["import_id"]).await;
    assert_eq!(
        (&whole["item_count"], &whole["requests"]["total"]),
        (&json!(2501), &json!(4))
    );
    let bob = door.client("bob").await;
    for id in [&ids[2], &taken["import_id"]] {
        let path = format!("{IMPORT_STATUS}{}", id.as_str().unwrap());
        assert_eq!(bob.get(&path).await.unwrap().status, 404);
    }
}

#[tokio::test]
async fn two_datasets_of_one_name_are_two_datasets() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let taken = bulk(&client, &[dataset("a", 1), dataset("a", 2)]).await;
    let whole = status(&client, &taken["import_id"]).await;
    let sizes: Vec<_> = (0..2)
        .map(|n| {
            (
                &whole["datasets"][n]["id"],
                &whole["datasets"][n]["item_count"],
            )
        })
        .collect();
    assert_eq!(sizes, [(&json!("a"), &json!(1)), (&json!("a"), &json!(2))]);
}

#[tokio::test]
async fn the_same_key_is_one_import_and_another_body_is_refused() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    for n in [1, 1500] {
        let (key, body) = (
            format!("k{n}"),
            json!({"datasets": [dataset("a", n)]}).to_string(),
        );
        let post = |body: String| {
            let (key, client) = (key.clone(), &client);
            async move { post_with(client, BULK, &[("idempotency-key", &key)], body.as_bytes()).await }
        };
        let (first, again) = (post(body.clone()).await, post(body).await);
        assert_eq!((first.status, &first.body), (202, &again.body));
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!(first.header("location"), again.header("location"));
        let other = post(json!({"datasets": [dataset("b", n)]}).to_string()).await;
        assert_eq!(code_of(&other), "idempotency.mismatch");
    }
    assert_eq!(door.count("SELECT count(*) FROM imports").await, 2);
}

#[tokio::test]
async fn an_import_that_is_none_is_refused_whole() {
    let door = Door::with(|plan| plan.settings.imports.items_max = 2000).await;
    let client = door.client("ann").await;
    let many = vec![dataset("a", 1); 1001];
    for (body, status, code) in [
        (json!({}), 400, "items.empty"),
        (json!({"datasets": []}), 400, "items.empty"),
        (
            json!({"datasets": [dataset("a", 1), dataset("b", 0)]}),
            400,
            "items.empty",
        ),
        (
            json!({"datasets": [dataset("a", 1), 7]}),
            422,
            "part.not_an_object",
        ),
        (json!({"datasets": many}), 413, "items.too_many"),
        (
            json!({"datasets": [dataset("a", 2001)]}),
            413,
            "items.too_many",
        ),
        (
            json!({"datasets": [dataset("a", 1500), dataset("b", 501)]}),
            413,
            "items.too_many",
        ),
        (
            json!({"datasets": [{"items": [{}], "webhook_url": "https://a.b"}]}),
            422,
            "webhook.unavailable",
        ),
    ] {
        let answer = client.post_json(BULK, &body).await.unwrap();
        assert_eq!((answer.status, code_of(&answer).as_str()), (status, code));
    }
    let huge = json!({"datasets": [dataset("a", 200_000)]});
    let answer = client.post_json(BULK, &huge).await.unwrap();
    assert_eq!(
        (answer.status, code_of(&answer).as_str()),
        (413, "body.too_large")
    );
    assert_eq!(door.requests().await, 0);
    assert_eq!(door.count("SELECT count(*) FROM imports").await, 0);
}

#[tokio::test]
async fn a_cancel_is_kept_once_and_only_of_ones_own_that_has_not_ended() {
    let door = Door::open().await;
    let (ann, bob) = (door.client("ann").await, door.client("bob").await);
    let import = bulk(&ann, &[dataset("a", 2)]).await["import_id"].clone();
    let theirs = cancel(&bob, &import).await;
    assert_eq!(
        (theirs.status, code_of(&theirs).as_str()),
        (404, "request.unknown")
    );
    let first = cancel(&ann, &import).await;
    assert_eq!(first.status, 202, "{}", first.text());
    let asked_at = first.json().unwrap()["cancel_asked_at"].clone();
    assert!(asked_at.is_string());
    let again = cancel(&ann, &import).await;
    assert_eq!(
        (again.status, &again.json().unwrap()["cancel_asked_at"]),
        (202, &asked_at)
    );
    let unknown = [json!(ratebox_kit::id::new()), json!("x"), json!("7")];
    for id in &unknown {
        assert_eq!(cancel(&ann, id).await.status, 404);
    }
    // A request is no import.
    let single = post(&ann, IMPORT, br#"{"phone":"1"}"#).await;
    assert_eq!(cancel(&ann, &json!(id_of(&single))).await.status, 404);
    door.execute("UPDATE imports SET state = 'cancelled'").await;
    let done = cancel(&ann, &import).await;
    assert_eq!(
        (done.status, &done.json().unwrap()["status"]),
        (200, &json!("cancelled"))
    );
    door.execute("UPDATE imports SET state = 'partial'").await;
    let ended = cancel(&ann, &import).await;
    assert_eq!(
        (ended.status, code_of(&ended).as_str()),
        (409, "import.ended")
    );
    let reader = door
        .anybody()
        .with_token(&door.token("ann", &["find"]).await);
    assert_eq!(cancel(&reader, &import).await.status, 403);
}

#[tokio::test]
async fn what_is_asked_beside_a_cancel_is_refused_and_nothing_is_cancelled() {
    let door = Door::open().await;
    let ann = door.client("ann").await;
    let import = bulk(&ann, &[dataset("a", 1)]).await["import_id"].clone();
    for (query, code) in [
        ("force=true", "query.unknown_parameter"),
        ("wait=1", "query.unknown_parameter"),
        ("a=1&a=2", "query.malformed"),
    ] {
        let id = json!(format!("{}?{query}", import.as_str().unwrap()));
        let refused = cancel(&ann, &id).await;
        assert_eq!((refused.status, code_of(&refused).as_str()), (400, code));
    }
    let asked = "SELECT count(*) FROM imports WHERE cancel_asked_at IS NOT NULL";
    assert_eq!(door.count(asked).await, 0);
}

#[tokio::test]
async fn in_stream_mode_an_import_is_its_requests_and_nothing_more() {
    let door = Door::with(|plan| plan.settings.accept.mode = AcceptMode::Stream).await;
    let client = door.client("ann").await;
    let body = json!({"datasets": [dataset("a", 1500)]});
    let answer = client.post_json(BULK, &body).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    let taken = answer.json().unwrap();
    assert!(taken["import_id"].is_null());
    let location = answer.header("location").unwrap();
    assert!(location.contains(taken["datasets"][0]["request_id"].as_str().unwrap()));
    let queued = client.get(location).await.unwrap().json().unwrap();
    assert_eq!(
        (&queued["status"], &queued["item_count"]),
        (&json!("queued"), &json!(1000))
    );
    assert_eq!(door.bus.entries("{validation_requests}:low").await.len(), 2);
    assert_eq!(door.count("SELECT count(*) FROM imports").await, 0);
}

#[tokio::test]
async fn operators_see_the_imports_of_all_owners_and_how_far_they_are() {
    let door = Door::open().await;
    let (ann, bob) = (door.client("ann").await, door.client("bob").await);
    let item = json!({"phone": "0909123456", "bank_account": "12345678901"});
    let datasets = json!({"datasets": [{"id": "a", "items": [item, item]}]});
    let mut ids = Vec::new();
    for client in [&ann, &bob, &ann] {
        let taken = client.post_json(BULK, &datasets).await.unwrap();
        ids.push(taken.json().unwrap()["import_id"].clone());
    }
    let list = async |client: &HttpClient, query: &str| {
        let path = format!("/api/monitoring/imports{query}");
        client.get(&path).await.unwrap()
    };
    assert_eq!(list(&ann, "").await.status, 403, "not its business");
    let ops = door.with_scopes(&["monitoring:read"]).await;
    let page = list(&ops, "?limit=2").await.json().unwrap();
    let shown = |page: &Value| -> Vec<Value> {
        let imports = page["imports"].as_array().unwrap().iter();
        imports.map(|it| it["id"].clone()).collect()
    };
    assert_eq!(shown(&page), [ids[2].clone(), ids[1].clone()]);
    let cursor = page["next"].as_str().unwrap().to_owned();
    let rest = list(&ops, &format!("?limit=2&cursor={cursor}")).await;
    let rest = rest.json().unwrap();
    assert_eq!(
        (shown(&rest), &rest["next"]),
        (vec![ids[0].clone()], &Value::Null)
    );
    let bobs = list(&ops, "?owner=bob&state=open").await.json().unwrap();
    assert_eq!(shown(&bobs), [ids[1].clone()]);
    let one = &bobs["imports"][0];
    assert_eq!(
        (&one["status"], &one["item_count"]),
        (&json!("queued"), &json!(2))
    );
    assert_eq!(
        one["requests"],
        json!({"total": 1, "done": 0, "dead": 0, "cancelled": 0})
    );
    assert!(!bobs.to_string().contains("0909123456"), "{bobs}");
    let ended = list(&ops, "?state=success,partial").await.json().unwrap();
    assert_eq!(ended["imports"], json!([]));
    assert_eq!(list(&ops, "?state=gone").await.status, 400);
    // No saga counts here, yet both tell the same of what is judged.
    door.published("{validation_requests}:low", 3).await;
    door.judge_all(Tell::StoreOnly).await;
    let told = status(&bob, &ids[1]).await;
    let bobs = list(&ops, "?owner=bob&state=processing").await;
    let shown = &bobs.json().unwrap()["imports"][0];
    assert_eq!(told["items_done"], 2);
    for figure in [
        "status",
        "item_count",
        "items_done",
        "items_cancelled",
        "requests",
        "verdicts",
    ] {
        assert_eq!(shown[figure], told[figure], "{figure}");
    }
}
