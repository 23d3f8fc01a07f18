//! The description against the server: every route, every example, every documented status, and
//! the shape of every answer.

mod lookups;
mod operators;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratebox_gateway::{Condition, Health, OPENAPI, Weight};
use ratebox_kit::{Quota, id};
use ratebox_testkit::{Answer, HttpClient};
use serde_json::{Value, json};
use tokio::join;

use crate::door::{Door, ITEM, VALIDATE, id_of, post, post_with};
use crate::framing::exchange_parts;
use crate::judge::Tell;

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

/// Follows a reference.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).expect(reference),
        None => value,
    }
}

/// A small part of JSON Schema: what the document uses.
fn check(document: &Value, schema: &Value, value: &Value, at: &str) {
    let schema = resolve(document, schema);
    if let Some(options) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        let fits = |option: &Value| {
            std::panic::catch_unwind(|| check(document, option, value, at)).is_ok()
        };
        assert!(options.iter().any(fits), "{at} fits no option");
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = kinds.contains(&kind) || (kind == "integer" && kinds.contains(&"number"));
    assert!(kinds.is_empty() || fits, "{at} is {kind}, not {kinds:?}");
    if let Some(words) = schema["enum"].as_array() {
        assert!(
            words.contains(value),
            "{at} is {value}, not one of {words:?}"
        );
    }
    if let Value::Object(fields) = value {
        for required in schema["required"].as_array().into_iter().flatten() {
            assert!(
                fields.contains_key(required.as_str().unwrap()),
                "{at} lacks {required}"
            );
        }
        for (name, field) in fields {
            match schema["properties"].get(name) {
                Some(schema) => check(document, schema, field, &format!("{at}.{name}")),
                None if schema["properties"].is_object()
                    && schema["additionalProperties"].is_null() =>
                {
                    panic!("{at}.{name} is not documented");
                }
                None => {}
            }
        }
    }
    if let (Value::Array(items), schema @ Value::Object(_)) = (value, &schema["items"]) {
        for item in items {
            check(document, schema, item, &format!("{at}[]"));
        }
    }
}

/// What was seen: (path, method) → statuses.
#[derive(Default)]
struct Seen(BTreeMap<(String, String), BTreeSet<u16>>);

impl Seen {
    /// Checks an answer against the document, and remembers its status.
    fn see(&mut self, document: &Value, method: &str, path: &str, answer: &Answer) {
        let responses = &document["paths"][path][method]["responses"];
        let status = answer.status.to_string();
        let response = responses.get(&status);
        let response = response
            .unwrap_or_else(|| panic!("{method} {path} answered {status}: {}", answer.text()));
        let response = resolve(document, response);
        let kind = answer.header("content-type").unwrap();
        let schema = &response["content"][kind]["schema"];
        assert!(schema.is_object(), "{method} {path} {status} is {kind}");
        check(
            document,
            schema,
            &answer.json().unwrap(),
            &format!("{method} {path} {status}"),
        );
        let conditional = [
            "Idempotency-Replayed",
            "Preference-Applied",
            "RateLimit",
            "RateLimit-Policy",
        ];
        for name in conditional {
            let is_documented = response["headers"].get(name).is_some();
            let there = answer.header(name).is_some();
            assert!(is_documented || !there, "{method} {path} {status} {name}");
        }
        for (name, _) in response["headers"].as_object().into_iter().flatten() {
            let there = answer.header(name).is_some() || conditional.contains(&name.as_str());
            assert!(there, "{method} {path} {status} lacks {name}");
        }
        self.0
            .entry((path.to_owned(), method.to_owned()))
            .or_default()
            .insert(answer.status);
    }
}

#[tokio::test]
async fn the_document_is_served_and_names_this_version() {
    let door = Door::open().await;
    let answer = door.anybody().get("/openapi.json").await.unwrap();
    assert_eq!(answer.json().unwrap(), document());
    assert_eq!(document()["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(document()["openapi"], "3.1.0");
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    fn walk(document: &Value, value: &Value) {
        resolve(document, value);
        match value {
            Value::Object(fields) => fields.values().for_each(|value| walk(document, value)),
            Value::Array(items) => items.iter().for_each(|value| walk(document, value)),
            _ => {}
        }
    }
    walk(&document(), &document());
}

#[tokio::test]
async fn every_example_of_a_request_is_taken_and_fits_its_schema() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let document = document();
    let mut examples = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        let body = &operations["post"]["requestBody"]["content"]["application/json"];
        for (name, example) in body["examples"].as_object().into_iter().flatten() {
            check(&document, &body["schema"], &example["value"], name);
            let answer = client.post_json(path, &example["value"]).await.unwrap();
            let expected = if path.starts_with("/api/lookup") {
                200
            } else {
                202
            };
            assert_eq!(answer.status, expected, "{path} {name}: {}", answer.text());
            examples += 1;
        }
    }
    assert!(examples >= 6);
}

/// Everything that a write can be answered.
async fn writes(seen: &mut Seen, document: &Value, path: &str, body: &str) {
    let door = Door::with(|plan| {
        plan.settings.limits.validate = Quota::per_minute(1);
        plan.settings.limits.batch = Quota::per_minute(1);
        plan.settings.limits.import = Quota::per_minute(1);
        plan.settings.limits.bulk = Quota::per_minute(1);
        plan.settings.body.timeout = Duration::from_millis(100);
    })
    .await;
    let token = door.token("ann", &["admin"]).await;
    let client = door.anybody().with_token(&token);
    let reader = door
        .anybody()
        .with_token(&door.token("ann", &["find"]).await);
    let key = [("idempotency-key", "k")];
    let mut answers = vec![
        post_with(&client, path, &key, body.as_bytes()).await,
        post(&client, path, b"{").await,
        post(&door.anybody(), path, body.as_bytes()).await,
        post(&reader, path, body.as_bytes()).await,
        slow(&door, &token, path).await,
        post(&client, path, &vec![b' '; 3 << 20]).await,
        client
            .request("POST", path, &[("content-type", "text/plain")], b"x")
            .await
            .unwrap(),
        post_with(&client, path, &key, body.replace('1', "2").as_bytes()).await,
    ];
    let limited = door
        .anybody()
        .with_token(&door.make_token("bob", &["create"], |_| {}).await);
    answers.push(post(&limited, path, body.as_bytes()).await);
    answers.push(post(&limited, path, body.as_bytes()).await);
    door.fill().await;
    let big = body.replace('1', &"1".repeat(1 << 20));
    answers.push(post(&client, path, big.as_bytes()).await);
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(
        statuses,
        [202, 400, 401, 403, 408, 413, 415, 422, 202, 429, 503],
        "{path}"
    );
    for answer in &answers {
        seen.see(document, "post", path, answer);
    }
    let answer = in_progress(path, body).await;
    assert_eq!(answer.status, 409);
    seen.see(document, "post", path, &answer);
}

/// A body that does not end.
async fn slow(door: &Door, token: &str, path: &str) -> Answer {
    slow_as(door, token, "POST", path).await
}

async fn slow_as(door: &Door, token: &str, method: &str, path: &str) -> Answer {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{{"
    );
    assert_eq!(
        exchange_parts(door, &[head.as_bytes()]).await.status,
        Some(408)
    );
    door.anybody().raw(head.as_bytes()).await.unwrap()
}

/// A key whose first submission has no outcome.
async fn in_progress(path: &str, body: &str) -> Answer {
    let door = Door::with(crate::stream_mode::forgetful).await;
    let client = door.client("ann").await;
    let key = [("idempotency-key", "k")];
    post_with(&client, path, &key, body.as_bytes()).await;
    post_with(&client, path, &key, body.as_bytes()).await
}

/// Everything that a look-up can be answered.
async fn looks(seen: &mut Seen, document: &Value, path: &str) {
    let door = Door::with(|plan| {
        plan.settings.limits.status = Quota::per_minute(1);
        plan.settings.limits.import_status = Quota::per_minute(1);
    })
    .await;
    let client = door.client("ann").await;
    let ask = async |client: &HttpClient, id: &str, query: &str| {
        client
            .get(&format!("{}{query}", path.replace("{id}", id)))
            .await
            .unwrap()
    };
    let taken = id_of(&post(&client, VALIDATE, ITEM.as_bytes()).await);
    let mut answers = vec![ask(&client, &taken, "").await];
    door.published("validation_requests", 1).await;
    door.judge_all(Tell::StoreOnly).await;
    answers.push(ask(&client, &taken, "").await);
    answers.push(ask(&client, &taken, "?entry=%ff&entry=2").await);
    answers.push(ask(&door.anybody(), &taken, "").await);
    let writer = door
        .anybody()
        .with_token(&door.token("ann", &["create"]).await);
    answers.push(ask(&writer, &taken, "").await);
    answers.push(ask(&client, &id::new().to_string(), "").await);
    let limited = door
        .anybody()
        .with_token(&door.make_token("bob", &["find"], |_| {}).await);
    ask(&limited, &taken, "").await;
    answers.push(ask(&limited, &taken, "").await);
    door.execute("ALTER TABLE api_tokens RENAME TO gone").await;
    let stranger = door.anybody().with_token("rb_test_0123456789abcdef_00");
    answers.push(ask(&stranger, &taken, "").await);
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 400, 401, 403, 404, 429, 503], "{path}");
    for answer in &answers {
        seen.see(document, "get", path, answer);
    }
}

/// Everything that the wish to end an import can be answered.
async fn cancels(seen: &mut Seen, document: &Value) {
    let path = "/api/importer/cancel/{id}";
    let door = Door::with(|plan| plan.settings.limits.import_cancel = Quota::per_minute(1)).await;
    let client = door.client("ann").await;
    let bulk = br#"{"datasets":[{"items":[{"phone":"1"}]}]}"#;
    let taken = post(&client, "/api/importer/bulk", bulk).await;
    let id = taken.json().unwrap()["import_id"].clone();
    let id = id.as_str().unwrap();
    let ask = async |client: &HttpClient, id: &str| {
        let path = path.replace("{id}", id);
        client.request("POST", &path, &[], b"").await.unwrap()
    };
    let mut answers = vec![ask(&client, id).await];
    door.execute("UPDATE imports SET state = 'cancelled'").await;
    answers.push(ask(&client, id).await);
    door.execute("UPDATE imports SET state = 'error'").await;
    answers.push(ask(&client, id).await);
    answers.push(ask(&client, &format!("{id}?force=true")).await);
    answers.push(ask(&door.anybody(), id).await);
    let reader = door
        .anybody()
        .with_token(&door.token("ann", &["find"]).await);
    answers.push(ask(&reader, id).await);
    answers.push(ask(&client, "x").await);
    let limited = door
        .anybody()
        .with_token(&door.make_token("bob", &["create"], |_| {}).await);
    ask(&limited, id).await;
    answers.push(ask(&limited, id).await);
    door.execute("ALTER TABLE api_tokens RENAME TO gone").await;
    let stranger = door.anybody().with_token("rb_test_0123456789abcdef_00");
    answers.push(ask(&stranger, id).await);
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [202, 200, 409, 400, 401, 403, 404, 429, 503]);
    for answer in &answers {
        seen.see(document, "post", path, answer);
    }
}

/// Health in all its states.
async fn healths(seen: &mut Seen, document: &Value) {
    let up = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&up);
    let check = move || {
        let is_up = switch.load(Ordering::SeqCst);
        std::future::ready(if is_up {
            Condition::Up
        } else {
            Condition::Down("no answer")
        })
    };
    let health = Health::new().check("store", Weight::Needed, check);
    let door = Door::with(|plan| plan.health = health).await;
    door.ready().await;
    let paths = [
        "/api/health",
        "/api/health/ready",
        "/api/health/live",
        "/openapi.json",
    ];
    for path in paths {
        seen.see(
            document,
            "get",
            path,
            &door.anybody().get(path).await.unwrap(),
        );
    }
    door.tasks.spawn("doomed", async { panic!("on purpose") });
    ratebox_testkit::wait_until(Duration::from_secs(5), "the panic is seen", || async {
        door.health("/api/health/live").await == 503
    })
    .await;
    for path in &paths[..3] {
        seen.see(
            document,
            "get",
            path,
            &door.anybody().get(path).await.unwrap(),
        );
    }
}

async fn waits(seen: &mut Seen, document: &Value) {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let headers = [("prefer", "wait=10"), ("idempotency-key", "k")];
    let ask = post_with(&client, VALIDATE, &headers, ITEM.as_bytes());
    let judge = async {
        door.published("validation_requests", 1).await;
        door.judge_all(Tell::StoreAndStream).await
    };
    let (answer, _) = join!(ask, judge);
    assert_eq!(answer.status, 200);
    seen.see(document, "post", VALIDATE, &answer);
    let again = post_with(&client, VALIDATE, &headers, ITEM.as_bytes()).await;
    assert_eq!(
        (again.status, again.header("idempotency-replayed")),
        (200, Some("true"))
    );
    seen.see(document, "post", VALIDATE, &again);
}

#[tokio::test]
async fn any_value_of_a_list_is_a_record_but_only_an_object_is_one_alone() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let document = document();
    let items = &document["components"]["schemas"]["Batch"]["properties"]["items"];
    for (value, alone) in [
        (json!({"phone": "1"}), 202),
        (json!(7), 422),
        (json!("x"), 422),
        (json!(null), 400),
    ] {
        let list = json!([value]);
        check(&document, items, &list, "items");
        let answer = client.post_json(VALIDATE, &json!({ "items": list })).await;
        assert_eq!(answer.unwrap().status, 202, "{list}");
        let fits = std::panic::catch_unwind(|| check(&document, items, &value, "items")).is_ok();
        assert_eq!(fits, alone == 202, "{value}");
        let answer = client.post_json(VALIDATE, &json!({ "items": value })).await;
        assert_eq!(answer.unwrap().status, alone, "{value}");
    }
}

/// `oneOf` means exactly one, and our objects may have further fields: an answer that fits one
/// object may fit another.
#[test]
fn objects_are_no_alternatives_that_exclude_each_other() {
    fn walk(document: &Value, value: &Value, at: &str) {
        if let Some(options) = value["oneOf"].as_array() {
            let options = options.iter().map(|option| resolve(document, option));
            let objects = options.filter(|option| option["type"] == "object").count();
            assert!(objects <= 1, "{at}: write anyOf");
        }
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    walk(document, field, &format!("{at}/{name}"));
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(document, item, at)),
            _ => {}
        }
    }
    let document = document();
    walk(&document, &document, "");
}

#[tokio::test]
async fn every_documented_status_is_answered_as_documented() {
    let document = document();
    let mut seen = Seen::default();
    writes(
        &mut seen,
        &document,
        VALIDATE,
        r#"{"items":[{"phone":"1"}]}"#,
    )
    .await;
    writes(
        &mut seen,
        &document,
        "/api/importer/import",
        r#"{"items":[{"phone":"1"}]}"#,
    )
    .await;
    let batch = r#"{"batches":[{"items":[{"phone":"1"}]}]}"#;
    writes(&mut seen, &document, "/api/validation/batch", batch).await;
    let bulk = r#"{"datasets":[{"items":[{"phone":"1"}]}]}"#;
    writes(&mut seen, &document, "/api/importer/bulk", bulk).await;
    looks(&mut seen, &document, "/api/validation/status/{id}").await;
    looks(&mut seen, &document, "/api/importer/status/{id}").await;
    lookups::answers(&mut seen, &document).await;
    cancels(&mut seen, &document).await;
    healths(&mut seen, &document).await;
    waits(&mut seen, &document).await;
    operators::operators(&mut seen, &document).await;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let documented: BTreeSet<u16> = operation["responses"]
                .as_object()
                .unwrap()
                .keys()
                .filter_map(|status| status.parse().ok())
                .collect();
            let answered = seen.0.get(&(path.clone(), method.clone()));
            assert_eq!(answered, Some(&documented), "{method} {path}");
        }
    }
}
