//! Imports: taken as importers send them, and how far they are.

use ratebox_intake::decode;
use serde_json::json;

use crate::door::{BULK, Door, IMPORT, IMPORT_STATUS, code_of, id_of};
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

#[tokio::test]
async fn a_dataset_of_more_than_a_thousand_items_is_refused_for_now() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let many = vec![json!({"phone": "1"}); 1001];
    let body = json!({"datasets": [{"id": "a", "items": [{}]}, {"id": "b", "items": many}]});
    let answer = client.post_json(BULK, &body).await.unwrap();
    assert_eq!(
        (answer.status, code_of(&answer).as_str()),
        (413, "items.too_many")
    );
    assert!(answer.text().contains("at most 1000"), "{}", answer.text());
    assert_eq!(door.requests().await, 0);
}
