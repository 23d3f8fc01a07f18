//! Sagas over HTTP: who may see and order what, and what becomes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ratebox_kit::{Tasks, id};
use ratebox_saga::{Ctx, Engine, Retry, Saga, Status, StepError, StepResult};
use ratebox_testkit::{Answer, HttpClient};
use serde_json::{Value, json};

use crate::door::Door;

pub(crate) const SAGAS: &str = "/api/monitoring/sagas";
pub(crate) const DEFINITIONS: &str = "/api/monitoring/saga-definitions";

/// A saga that cannot be undone until it is repaired, and the engine that runs it.
pub(crate) struct Parked {
    pub(crate) id: String,
    pub(crate) engine: Engine,
    pub(crate) tasks: Tasks,
    repaired: Arc<AtomicBool>,
}

impl Door {
    /// Runs a saga until it is parked: its step `hotel` cannot be undone.
    pub(crate) async fn park(&self) -> Parked {
        let repaired = Arc::new(AtomicBool::new(false));
        let b = Saga::<Value>::builder("trip");
        let hotel = b.step("hotel", async |_: Ctx, _: Value| Ok(json!({ "room": 7 })));
        let is_repaired = Arc::clone(&repaired);
        let hotel = hotel.undo_retry(Retry::none()).undo(move |_, _, _| {
            let is_repaired = is_repaired.load(Ordering::SeqCst);
            async move {
                if is_repaired {
                    return Ok(());
                }
                Err(StepError::rejected("no answer"))
            }
        });
        let full = async |_: Ctx, _: Value| -> StepResult { Err(StepError::rejected("full")) };
        b.after(hotel).step("flight", full).read_only();
        let saga = b.build().unwrap();
        // Beside the gateway's own, so that it ends first.
        let tasks = Tasks::new();
        let engine = Engine::builder(&self.journal).register(&saga);
        let engine = engine.start(&tasks).unwrap();
        let input = json!({ "name": "Nguyen Van An" });
        let handle = engine
            .start(&saga, &input)
            .key(id::new().to_string())
            .await
            .unwrap();
        handle.settled().await.unwrap();
        Parked {
            id: handle.id().to_string(),
            engine,
            tasks,
            repaired,
        }
    }
}

async fn get(client: &HttpClient, path: &str) -> Value {
    let answer = client.get(path).await.unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json().unwrap()
}

async fn order(client: &HttpClient, id: &str, body: &Value) -> Answer {
    let path = format!("{SAGAS}/{id}/orders");
    client.post_json(&path, body).await.unwrap()
}

#[tokio::test]
async fn a_parked_saga_is_seen_drawn_repaired_and_written_down() {
    let door = Door::open().await;
    let parked = door.park().await;
    let ops = door
        .with_scopes(&["monitoring:read", "monitoring:write"])
        .await;
    let page = get(&ops, &format!("{SAGAS}?state=parked&definition=trip")).await;
    assert_eq!(page["sagas"][0]["id"], *parked.id, "{page}");
    assert_eq!(page["counts"][0]["count"], 1, "{page}");
    let one = format!("{SAGAS}/{}", parked.id);
    let shown = get(&ops, &one).await;
    assert_eq!(shown["steps"][0]["state"], "parked", "{shown}");
    assert_eq!(shown["input"], json!({ "name": "***" }));
    assert!(!shown.to_string().contains("Nguyen"), "{shown}");
    let graph = get(&ops, &format!("{one}/graph")).await;
    let graph = graph["mermaid"].as_str().unwrap().to_owned();
    assert!(
        graph.contains("hotel") && graph.contains(":::parked"),
        "{graph}"
    );
    // Nothing that it does not take is written down.
    let flight = json!({ "order": "retry", "step": "flight", "reason": "r" });
    let refused = order(&ops, &parked.id, &flight).await;
    assert_eq!(refused.status, 409, "{}", refused.text());
    parked.repaired.store(true, Ordering::SeqCst);
    let hotel = json!({ "order": "retry", "step": "hotel", "reason": "it answers again" });
    let done = order(&ops, &parked.id, &hotel).await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(done.json().unwrap()["outcome"], "done");
    let id = parked.id.parse().unwrap();
    while parked
        .engine
        .history(id)
        .await
        .unwrap()
        .head
        .ended_at
        .is_none()
    {
        tokio::task::yield_now().await;
    }
    let shown = get(&ops, &one).await;
    assert_eq!(shown["status"], "rolled_back", "{shown}");
    let deeds = shown["deeds"].as_array().unwrap();
    assert_eq!(deeds.len(), 1, "{shown}");
    assert_eq!(deeds[0]["action"], "saga.retry");
    assert_eq!(deeds[0]["detail"]["step"], "hotel");
    let records = shown["records"].as_array().unwrap();
    let by = records.iter().find(|it| it["kind"] == "revived").unwrap();
    assert!(by["who"].as_str().unwrap().starts_with("token:"), "{by}");
    assert_eq!(by["note"], "it answers again");
    parked.tasks.join(std::time::Duration::from_secs(5)).await;
}

#[tokio::test]
async fn reading_sagas_does_not_grant_ordering_and_unmasking_needs_an_administrator() {
    let door = Door::open().await;
    let parked = door.park().await;
    let reader = door.with_scopes(&["monitoring:read"]).await;
    let abandon = json!({ "order": "abandon", "reason": "r" });
    assert_eq!(order(&reader, &parked.id, &abandon).await.status, 403);
    let one = format!("{SAGAS}/{}", parked.id);
    let unmasked = format!("{one}?unmask=true&reason=asked");
    assert_eq!(reader.get(&unmasked).await.unwrap().status, 403);
    let admin = door.with_scopes(&["admin"]).await;
    let plain = get(&admin, &unmasked).await;
    assert_eq!(plain["input"], json!({ "name": "Nguyen Van An" }));
    let deeds = get(&admin, &one).await["deeds"].clone();
    assert_eq!(deeds[0]["action"], "payload.unmask", "{deeds}");
    let done = order(&admin, &parked.id, &abandon).await;
    assert_eq!(done.status, 200, "{}", done.text());
    parked.tasks.join(std::time::Duration::from_secs(5)).await;
}

#[tokio::test]
async fn an_order_that_nobody_reads_is_answered_as_posted_and_read_later() {
    let door = Door::open().await;
    let parked = door.park().await;
    parked.tasks.join(std::time::Duration::from_secs(5)).await;
    let ops = door.with_scopes(&["monitoring:write"]).await;
    let skip = json!({ "order": "skip", "step": "hotel", "reason": "r" });
    let posted = order(&ops, &parked.id, &skip).await;
    assert_eq!(posted.status, 202, "{}", posted.text());
    assert_eq!(posted.json().unwrap()["outcome"], "waiting");
    let waiting = door.count("SELECT count(*) FROM saga_letters").await;
    let lines = door.count("SELECT count(*) FROM audit_log").await;
    assert_eq!((waiting, lines), (1, 1));
}

#[tokio::test]
async fn one_call_orders_the_same_of_all_sagas_that_match_and_writes_each_down() {
    let door = Door::open().await;
    let (one, other) = (door.park().await, door.park().await);
    let reader = door.with_scopes(&["monitoring:read"]).await;
    let ops = door.with_scopes(&["monitoring:write"]).await;
    let path = format!("{SAGAS}/orders");
    let wide = json!({ "order": "abandon", "reason": "r" });
    assert_eq!(reader.post_json(&path, &wide).await.unwrap().status, 403);
    // Not without saying which.
    let refused = ops.post_json(&path, &wide).await.unwrap();
    assert_eq!(refused.status, 422, "{}", refused.text());
    // Nor with a list of what looks like the filter's values.
    let list = json!({ "order": "abandon", "filter": ["any", "trip"], "reason": "r" });
    let refused = ops.post_json(&path, &list).await.unwrap();
    assert_eq!(refused.status, 422, "{}", refused.text());
    let list = json!(["abandon", { "definition": "trip" }, 10, "r"]);
    let refused = ops.post_json(&path, &list).await.unwrap();
    assert_eq!(refused.status, 422, "{}", refused.text());
    let trips = json!({ "definition": "trip", "state": "parked" });
    let wanted = |max: u32, cursor: &Value| {
        let mut filter = trips.clone();
        filter["cursor"] = cursor.clone();
        json!({ "order": "abandon", "filter": filter, "max": max, "reason": "the hotel closed" })
    };
    let first = ops
        .post_json(&path, &wanted(1, &Value::Null))
        .await
        .unwrap();
    let first = first.json().unwrap();
    assert_eq!(
        (&first["matched"], &first["posted"]),
        (&json!(1), &json!(1))
    );
    let rest = ops.post_json(&path, &wanted(10, &first["next"])).await;
    let rest = rest.unwrap().json().unwrap();
    assert_eq!(rest["posted"], 1, "{rest}");
    assert_eq!(
        (&rest["refused"], &rest["next"]),
        (&json!([]), &Value::Null)
    );
    for parked in [&one, &other] {
        let id = parked.id.parse().unwrap();
        while parked.engine.history(id).await.unwrap().head.status != Status::Failed {
            tokio::task::yield_now().await;
        }
    }
    let lines = "SELECT count(*) FROM audit_log WHERE action = 'saga.abandon'";
    assert_eq!(door.count(lines).await, 2);
    // An undone saga takes no cancellation; that is told for each.
    let cancel = json!({ "order": "cancel", "filter": { "definition": "trip", "state": "any" },
        "reason": "r" });
    let refused = ops.post_json(&path, &cancel).await.unwrap().json().unwrap();
    assert_eq!(refused["refused"].as_array().unwrap().len(), 2, "{refused}");
    for parked in [one, other] {
        parked.tasks.join(std::time::Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn times_may_be_told_by_how_long_ago() {
    let door = Door::open().await;
    let parked = door.park().await;
    let ops = door
        .with_scopes(&["monitoring:read", "monitoring:write"])
        .await;
    for (query, count) in [("from=15m", 1), ("until=15m", 0), ("from=1h&until=15m", 0)] {
        let page = get(&ops, &format!("{SAGAS}?{query}")).await;
        assert_eq!(page["sagas"].as_array().unwrap().len(), count, "{query}");
    }
    let wrong = ops.get(&format!("{SAGAS}?from=15")).await.unwrap();
    assert_eq!(wrong.status, 400, "{}", wrong.text());
    let at = async |ago: &str| {
        let path = format!("{SAGAS}/{}?at={ago}", parked.id);
        ops.get(&path).await.unwrap().status
    };
    // It was not there then.
    assert_eq!(
        (at("15m").await, at("0s").await, at("15").await),
        (404, 200, 400)
    );
    let path = format!("{SAGAS}/orders");
    let abandon = |until: &str| {
        let filter = json!({ "definition": "trip", "until": until });
        json!({ "order": "abandon", "filter": filter, "reason": "r" })
    };
    let done = ops.post_json(&path, &abandon("15m")).await.unwrap();
    assert_eq!(done.json().unwrap()["matched"], 0);
    let wrong = ops.post_json(&path, &abandon("15")).await.unwrap();
    assert_eq!(wrong.status, 422, "{}", wrong.text());
    parked.tasks.join(std::time::Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_definition_is_foreseen_with_what_its_steps_are_said_to_take() {
    let door = Door::open().await;
    let parked = door.park().await;
    let ops = door.with_scopes(&["monitoring:read"]).await;
    let all = get(&ops, DEFINITIONS).await;
    assert_eq!(all["definitions"][0]["name"], "trip", "{all}");
    let path = format!("{DEFINITIONS}/trip?takes.hotel=200&takes.flight=300");
    let foreseen = get(&ops, &path).await;
    assert_eq!(foreseen["takes_ms"], 500.0, "{foreseen}");
    assert_eq!(foreseen["critical_path"], json!(["hotel", "flight"]));
    let none = ops.get(&format!("{DEFINITIONS}/none")).await.unwrap();
    assert_eq!(none.status, 404);
    let step = ops.get(&format!("{DEFINITIONS}/trip?takes.no=1")).await;
    assert_eq!(step.unwrap().status, 404);
    parked.tasks.join(std::time::Duration::from_secs(5)).await;
}
