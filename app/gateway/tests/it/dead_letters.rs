//! Dead letters over HTTP: who may see and do what, and what it does.

use bytes::Bytes;
use ratebox_kit::{Attempt, DeadLetter, DeadLetterClass, DeadLetters};
use ratebox_stream::{Log as _, Wait, field};
use ratebox_testkit::HttpClient;
use serde_json::{Value, json};

use crate::door::{Door, VALIDATE, code_of, id_of, post};

pub(crate) const DLQ: &str = "/api/monitoring/dlq";
pub(crate) const REPLAY: &str = "/api/monitoring/dlq/replay";

impl Door {
    /// A request whose message died with `code`; its id.
    pub(crate) async fn bury(&self, client: &HttpClient, code: &str) -> String {
        let item = br#"{"phone":"0909123456","bank_account":"12345678901","name":"Nguyen Van An"}"#;
        let id = id_of(&post(client, VALIDATE, item).await);
        self.outbox_is_empty().await;
        let entries = self.bus.entries("validation_requests").await;
        let entry = entries.iter().find(|it| it.message_id() == id).unwrap();
        let now = self.store.clock().now();
        let letter = DeadLetter {
            message_id: id.clone(),
            stream: "validation_requests".to_owned(),
            entry_id: entry.id.to_string(),
            lane: "normal".to_owned(),
            fields: entry
                .fields
                .iter()
                .map(|(name, value)| (name.to_string(), value.clone()))
                .collect(),
            class: DeadLetterClass::Transient,
            error: "on purpose".to_owned(),
            code: code.to_owned(),
            fail_count: 4,
            first_failed_at: now,
            last_failed_at: now,
            consumer: "w".to_owned(),
            group: "validator_workers".to_owned(),
            attempts: vec![Attempt {
                at: now,
                consumer: "w".to_owned(),
                code: code.to_owned(),
                error: "on purpose".to_owned(),
            }],
        };
        self.store.keep(&[letter]).await.unwrap();
        id
    }

    /// A client with these scopes.
    pub(crate) async fn with_scopes(&self, scopes: &[&str]) -> HttpClient {
        self.anybody().with_token(&self.token("ops", scopes).await)
    }
}

async fn get(client: &HttpClient, path: &str) -> Value {
    let answer = client.get(path).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json().unwrap()
}

pub(crate) async fn delete(client: &HttpClient, path: &str) -> ratebox_testkit::Answer {
    client.request("DELETE", path, &[], b"").await.unwrap()
}

pub(crate) async fn patch(client: &HttpClient, id: &str, body: &str) -> ratebox_testkit::Answer {
    let kind = [("content-type", "application/json")];
    let path = format!("{DLQ}/{id}");
    let answer = client.request("PATCH", &path, &kind, body.as_bytes());
    answer.await.unwrap()
}

/// The only letter's id.
pub(crate) async fn only(client: &HttpClient) -> String {
    let page = get(client, DLQ).await;
    assert_eq!(page["letters"].as_array().unwrap().len(), 1, "{page}");
    page["letters"][0]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn payloads_are_masked_unless_an_administrator_says_why() {
    let door = Door::open().await;
    let request = door.bury(&door.client("ann").await, "db.value").await;
    let reader = door.with_scopes(&["monitoring:read"]).await;
    let letter = only(&reader).await;
    let path = format!("{DLQ}/{letter}");
    let shown = get(&reader, &path).await;
    assert_eq!(
        (&shown["message_id"], &shown["owner"]),
        (&json!(request), &json!("ann"))
    );
    assert_eq!(shown["attempts"][0]["code"], "db.value");
    let text = shown.to_string();
    assert!(
        !text.contains("0909123456") && !text.contains("Nguyen"),
        "{text}"
    );
    let unmask = format!("{path}?unmask=true&reason=ticket%2012");
    let refused = reader.get(&unmask).await.unwrap();
    assert_eq!(code_of(&refused), "scope.missing");
    let admin = door.with_scopes(&["admin"]).await;
    let refused = admin.get(&format!("{path}?unmask=true")).await.unwrap();
    assert_eq!(
        (refused.status, code_of(&refused)),
        (422, "reason.missing".to_owned())
    );
    let shown = get(&admin, &unmask).await;
    assert!(shown.to_string().contains("0909123456"));
    assert_eq!(shown["deeds"][0]["action"], "payload.unmask");
    assert_eq!(shown["deeds"][0]["reason"], "ticket 12");
    let actor = shown["deeds"][0]["actor"].as_str().unwrap();
    assert!(
        actor.starts_with("token:") && actor.ends_with("(ops)"),
        "{actor}"
    );
    for (accept, secret) in [("", false), ("&unmask=true&reason=x", true)] {
        let lines = admin
            .request(
                "GET",
                &format!("{DLQ}?limit=1{accept}"),
                &[("accept", "application/x-ndjson")],
                b"",
            )
            .await
            .unwrap();
        assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
        assert_eq!(lines.header("x-next-cursor"), Some(letter.as_str()));
        assert_eq!(lines.text().contains("0909123456"), secret);
    }
}

#[tokio::test]
async fn reading_does_not_grant_writing() {
    let door = Door::open().await;
    door.bury(&door.client("ann").await, "x").await;
    let reader = door.with_scopes(&["monitoring:read"]).await;
    let letter = only(&reader).await;
    let body = json!({ "ids": [letter], "reason": "r" });
    let answers = [
        reader.post_json(REPLAY, &body).await.unwrap(),
        patch(&reader, &letter, r#"{"original":true,"reason":"r"}"#).await,
        delete(&reader, &format!("{DLQ}/{letter}?reason=r")).await,
        delete(&reader, DLQ).await,
    ];
    for answer in &answers {
        assert_eq!(code_of(answer), "scope.missing");
    }
    let user = door.client("ann").await;
    assert_eq!(code_of(&user.get(DLQ).await.unwrap()), "scope.missing");
    let writer = door.with_scopes(&["monitoring:write"]).await;
    assert_eq!(code_of(&writer.get(DLQ).await.unwrap()), "scope.missing");
    let put = reader.request("PUT", DLQ, &[], b"").await.unwrap();
    assert_eq!(put.status, 405);
    assert_eq!(put.header("allow"), Some("GET, HEAD, DELETE"));
}

/// "replay" and "orders" are no names of a letter or a saga.
#[tokio::test]
async fn a_path_of_its_own_names_its_methods_and_not_those_of_ids() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let orders = format!("{}/orders", crate::sagas::SAGAS);
    for (method, path) in [
        ("GET", REPLAY),
        ("PATCH", REPLAY),
        ("DELETE", REPLAY),
        ("GET", &orders),
    ] {
        let answer = client.request(method, path, &[], b"").await.unwrap();
        assert_eq!(code_of(&answer), "method.not_allowed", "{method} {path}");
        assert_eq!(answer.header("allow"), Some("POST"), "{method} {path}");
    }
}

#[tokio::test]
async fn a_letter_is_edited_and_replayed_and_its_request_waits_again() {
    let door = Door::open().await;
    let user = door.client("ann").await;
    let request = door.bury(&user, "x").await;
    let ops = door
        .with_scopes(&["monitoring:read", "monitoring:write"])
        .await;
    let letter = only(&ops).await;
    let before = door.bus.entries("validation_requests").await;
    let data = std::str::from_utf8(before[0].field("data").unwrap())
        .unwrap()
        .to_owned();
    let edited = data.replace("0909123456", "0909123457");
    let body = format!(r#"{{"data":{edited},"replay":true,"reason":"wrong number"}}"#);
    let wrong = format!(
        r#"{{"data":{},"reason":"r"}}"#,
        data.replace("\"ann\"", "\"bob\"")
    );
    let refused = patch(&ops, &letter, &wrong).await;
    assert_eq!(
        (refused.status, code_of(&refused)),
        (422, "dead_letter.other_message".to_owned())
    );
    let no_message = patch(&ops, &letter, r#"{"data":[1],"reason":"r"}"#).await;
    assert_eq!(code_of(&no_message), "dead_letter.not_a_message");
    let done = patch(&ops, &letter, &body).await;
    assert_eq!(done.status, 200, "{}", done.text());
    let done = done.json().unwrap();
    assert_eq!(done["replay"]["replayed"], 1);
    assert_eq!(done["letter"]["state"], "replayed");
    assert!(!done.to_string().contains("0909123457"), "masked: {done}");
    door.published("validation_requests", 2).await;
    let again = &door.bus.entries("validation_requests").await[1];
    assert_eq!(again.message_id(), request);
    assert_eq!(again.first_entry(), before[0].id);
    assert_eq!(again.only_for(), Some("validator_workers"));
    assert_eq!(again.field("data"), Some(&Bytes::from(edited)));
    assert_eq!(again.field(field::ATTEMPT), None);
    let status = get(&user, &format!("/api/validation/status/{request}")).await;
    assert_eq!(status["status"], "queued");
    let late = patch(&ops, &letter, r#"{"original":true,"reason":"r"}"#).await;
    assert_eq!(
        (late.status, code_of(&late)),
        (409, "dead_letter.on_its_way".to_owned())
    );
}

#[tokio::test]
async fn many_are_replayed_and_purged_by_filter_after_a_dry_run() {
    let door = Door::open().await;
    let user = door.client("ann").await;
    for number in 0..5 {
        door.bury(&user, ["a", "b"][number % 2]).await;
    }
    let ops = door
        .with_scopes(&["monitoring:read", "monitoring:write"])
        .await;
    let wish = json!({ "filter": { "code": "a" }, "dry_run": true });
    let would = ops.post_json(REPLAY, &wish).await.unwrap().json().unwrap();
    assert_eq!(
        (&would["matched"], &would["replayed"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(door.bus.entries("validation_requests").await.len(), 5);
    let wish = json!({ "filter": { "code": "a" }, "reason": "r", "per_second": 1000 });
    let done = ops.post_json(REPLAY, &wish).await.unwrap().json().unwrap();
    assert_eq!(
        (&done["replayed"], &done["next"]),
        (&json!(3), &Value::Null)
    );
    door.published("validation_requests", 8).await;
    let would = delete(&ops, &format!("{DLQ}?code=b")).await.json().unwrap();
    assert_eq!(
        (&would["matched"], &would["purged"]),
        (&json!(2), &json!(0))
    );
    let changed = delete(&ops, &format!("{DLQ}?code=b&expect=1&reason=r")).await;
    assert_eq!(
        (changed.status, code_of(&changed)),
        (409, "dead_letter.count_changed".to_owned())
    );
    let done = delete(&ops, &format!("{DLQ}?code=b&expect=2&reason=r")).await;
    assert_eq!(done.json().unwrap()["purged"], 2);
    assert_eq!(get(&ops, DLQ).await["letters"], json!([]));
    let all = get(&ops, &format!("{DLQ}?state=any&limit=2")).await;
    assert_eq!(all["letters"].as_array().unwrap().len(), 2);
    let next = all["next"].as_str().unwrap();
    let rest = get(&ops, &format!("{DLQ}?state=any&limit=2&cursor={next}")).await;
    assert_eq!(rest["letters"].as_array().unwrap().len(), 1);
    let deeds = door.count("SELECT count(*) FROM audit_log").await;
    assert_eq!(deeds, 3 + 1 + 2 + 1, "each letter, and each bulk deed");
}

#[tokio::test]
async fn times_of_a_filter_may_be_told_by_how_long_ago() {
    let door = Door::open().await;
    door.bury(&door.client("ann").await, "x").await;
    let ops = door
        .with_scopes(&["monitoring:read", "monitoring:write"])
        .await;
    for (query, count) in [
        ("from=15m", 1),
        ("until=15m", 0),
        ("from=1d&until=15m", 0),
        ("from=2020-01-31T12:00:00Z", 1),
        ("until=2020-01-31T12:00:00Z", 0),
    ] {
        let page = get(&ops, &format!("{DLQ}?{query}")).await;
        assert_eq!(page["letters"].as_array().unwrap().len(), count, "{query}");
    }
    let wish = json!({ "filter": { "until": "15m" }, "dry_run": true });
    let would = ops.post_json(REPLAY, &wish).await.unwrap().json().unwrap();
    assert_eq!(would["matched"], 0);
    for wrong in ["from=15", "until=soon", "from=15min"] {
        let answer = ops.get(&format!("{DLQ}?{wrong}")).await.unwrap();
        assert_eq!(code_of(&answer), "query.malformed", "{wrong}");
        assert!(answer.text().contains("15m"), "{}", answer.text());
    }
}

/// `?dry_run=true` beside the body would be a real replay if it were passed over.
#[tokio::test]
async fn what_an_order_says_stands_in_its_body() {
    let door = Door::open().await;
    door.bury(&door.client("ann").await, "x").await;
    let ops = door
        .with_scopes(&["monitoring:read", "monitoring:write"])
        .await;
    let letter = only(&ops).await;
    let wish = json!({ "filter": {}, "reason": "r" });
    for path in [
        REPLAY.to_owned(),
        "/api/monitoring/pauses".to_owned(),
        format!("{}/orders", crate::sagas::SAGAS),
        format!("{}/{letter}/orders", crate::sagas::SAGAS),
    ] {
        let answer = ops.post_json(&format!("{path}?dry_run=true"), &wish).await;
        assert_eq!(
            code_of(&answer.unwrap()),
            "query.unknown_parameter",
            "{path}"
        );
    }
    let edit = r#"{"original":true,"reason":"r"}"#;
    let answer = patch(&ops, &format!("{letter}?x=1"), edit).await;
    assert_eq!(code_of(&answer), "query.unknown_parameter");
    assert_eq!(get(&ops, DLQ).await["letters"][0]["state"], "waiting");
}

/// A misspelt filter must never match everything.
#[tokio::test]
async fn a_filter_with_an_unknown_name_is_refused() {
    let door = Door::open().await;
    let ops = door
        .with_scopes(&["monitoring:read", "monitoring:write"])
        .await;
    for path in [
        "?klass=poison",
        "?class=bad",
        "?from=yesterday",
        "?limit=0",
        "?code=a&code=b",
    ] {
        let answer = ops.get(&format!("{DLQ}{path}")).await.unwrap();
        assert_eq!(answer.status, 400, "{path}");
    }
    assert_eq!(delete(&ops, &format!("{DLQ}?kode=a")).await.status, 400);
    for body in [
        json!({ "filter": { "kode": "a" }, "reason": "r" }),
        json!({ "filter": {}, "ids": [], "reason": "r" }),
        json!({ "filtre": {}, "reason": "r" }),
        json!({ "ids": [], "reason": "r" }),
        json!({ "filter": {}, "reason": "r", "per_second": 0 }),
        json!({ "filter": {} }),
    ] {
        let answer = ops.post_json(REPLAY, &body).await.unwrap();
        assert!(
            (400..=422).contains(&answer.status),
            "{body}: {}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn streams_and_their_members_are_shown_without_a_payload() {
    let door = Door::open().await;
    let user = door.client("ann").await;
    door.bury(&user, "x").await;
    let member = ratebox_stream::ConsumerName::new("w1");
    let group = ratebox_stream::GroupName::new("g");
    let sub = ratebox_stream::Subscription::new(door.lanes.clone(), group, member);
    door.bus.ensure_group(&sub).await.unwrap();
    let quota = [ratebox_stream::LaneQuota {
        lane: ratebox_stream::Lane::Normal,
        max: 1,
    }];
    let read = door.bus.read(&sub, &quota, Wait::None);
    assert_eq!(read.await.unwrap().len(), 1);
    let ops = door.with_scopes(&["monitoring:read"]).await;
    let streams = get(&ops, "/api/monitoring/streams").await;
    let normal = &streams["streams"][1];
    assert_eq!(
        (&normal["lane"], &normal["length"]),
        (&json!("normal"), &json!(1))
    );
    assert_eq!(normal["groups"][0]["pending"], 1);
    assert_eq!(normal["groups"][0]["is_owed"], true);
    assert_eq!(streams["streams"][4]["exists"], false, "{streams}");
    let consumers = get(&ops, "/api/monitoring/consumers").await;
    let holder = consumers["consumers"].as_array().unwrap().iter();
    let holder: Vec<_> = holder.filter(|it| it["pending"] == 1).collect();
    assert_eq!(holder.len(), 1, "{consumers}");
    assert_eq!(
        (&holder[0]["name"], &holder[0]["group"]),
        (&json!("w1"), &json!("g"))
    );
    assert!(!streams.to_string().contains("0909123456"));
}

#[tokio::test]
async fn pauses_are_ordered_shown_and_ended_and_written_down() {
    let door = Door::open().await;
    let path = "/api/monitoring/pauses";
    let ops = door
        .with_scopes(&["monitoring:read", "monitoring:write"])
        .await;
    assert_eq!(get(&ops, path).await, json!({ "pauses": [] }));
    let pause = async |body: Value| ops.post_json(path, &body).await.unwrap();
    let one = json!({ "group": "g", "seconds": 3600, "reason": "the database moves" });
    assert_eq!(pause(one).await.status, 200);
    assert_eq!(pause(json!({ "reason": "all stop" })).await.status, 200);
    let shorter = pause(json!({ "seconds": 1, "reason": "another" })).await;
    assert_eq!(shorter.status, 409, "the longer one stays");
    assert_eq!(shorter.json().unwrap()["code"], "pause.longer");
    let shown = get(&ops, path).await;
    let mut shown = shown["pauses"].as_array().unwrap().clone();
    shown.sort_by_key(|pause| pause["group"].is_null());
    assert_eq!(shown.len(), 2);
    assert_eq!(shown[0]["group"], "g");
    assert!((3_500..=3_600).contains(&shown[0]["seconds_left"].as_u64().unwrap()));
    assert_eq!(shown[1], json!({ "group": null, "seconds_left": null }));
    for wrong in [
        json!({ "group": "g" }),
        json!({ "group": "", "reason": "r" }),
        json!({ "seconds": 0, "reason": "r" }),
        json!({ "grupp": "g", "reason": "r" }),
    ] {
        assert_eq!(pause(wrong).await.status, 422);
    }
    let resumed = delete(&ops, &format!("{path}?group=g&reason=moved")).await;
    assert_eq!(resumed.json().unwrap()["was_paused"], true);
    let again = delete(&ops, &format!("{path}?group=g&reason=moved")).await;
    assert_eq!(again.json().unwrap()["was_paused"], false);
    assert_eq!(get(&ops, path).await["pauses"].as_array().unwrap().len(), 1);
    let reader = door.with_scopes(&["monitoring:read"]).await;
    let refused = reader.post_json(path, &json!({ "reason": "r" })).await;
    assert_eq!(refused.unwrap().status, 403);
    let deeds = "SELECT count(*) FROM audit_log WHERE action IN ('stream.pause', 'stream.resume')";
    assert_eq!(door.count(deeds).await, 4);
}
