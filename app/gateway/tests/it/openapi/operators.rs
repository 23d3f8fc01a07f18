//! What operators are answered, against the description.

use std::time::Duration;

use ratebox_kit::id;
use ratebox_stream::{ConsumerName, GroupName, Log as _, Subscription};
use ratebox_testkit::{Answer, HttpClient};

use super::{Seen, slow_as};
use crate::dead_letters::{DLQ, REPLAY};
use crate::door::Door;
use crate::sagas::{DEFINITIONS, SAGAS};

/// A call, the path of the document that it stands for, and what is answered.
type LetterStep = (&'static str, &'static str, String, Vec<u8>, u16);

const ONE_LETTER: &str = "/api/monitoring/dlq/{id}";
const CACHE: &str = "/api/monitoring/cache";
const PAUSES: &str = "/api/monitoring/pauses";
const STREAMS: [&str; 2] = ["/api/monitoring/streams", "/api/monitoring/consumers"];

/// What is asked of three letters, in this order.
fn letter_steps(one: &str) -> Vec<LetterStep> {
    let unknown = format!("{DLQ}/{}", id::new());
    let at = |path: &str, query: &str| format!("{path}{query}");
    let original = br#"{"original":true,"reason":"r"}"#.to_vec();
    let replayed = br#"{"original":true,"reason":"r","replay":true}"#.to_vec();
    let dry = br#"{"filter":{},"dry_run":true}"#.to_vec();
    let (huge, none, one) = (vec![b' '; 3 << 20], Vec::new(), one.to_owned());
    let (broken, empty) = (b"{".to_vec(), b"{}".to_vec());
    vec![
        ("GET", DLQ, DLQ.to_owned(), none.clone(), 200),
        ("GET", DLQ, at(DLQ, "?x=1"), none.clone(), 400),
        ("GET", DLQ, at(DLQ, "?unmask=true"), none.clone(), 422),
        ("GET", ONE_LETTER, one.clone(), none.clone(), 200),
        ("GET", ONE_LETTER, at(&one, "?x=1"), none.clone(), 400),
        ("GET", ONE_LETTER, unknown.clone(), none.clone(), 404),
        (
            "GET",
            ONE_LETTER,
            at(&one, "?unmask=true"),
            none.clone(),
            422,
        ),
        ("POST", REPLAY, REPLAY.to_owned(), dry, 200),
        ("POST", REPLAY, REPLAY.to_owned(), broken.clone(), 400),
        ("POST", REPLAY, REPLAY.to_owned(), empty.clone(), 422),
        ("POST", REPLAY, REPLAY.to_owned(), huge.clone(), 413),
        ("PATCH", ONE_LETTER, one.clone(), original.clone(), 200),
        ("PATCH", ONE_LETTER, one.clone(), broken, 400),
        ("PATCH", ONE_LETTER, unknown.clone(), original.clone(), 404),
        ("PATCH", ONE_LETTER, one.clone(), empty, 422),
        ("PATCH", ONE_LETTER, one.clone(), huge, 413),
        ("PATCH", ONE_LETTER, one.clone(), replayed, 200),
        ("PATCH", ONE_LETTER, one.clone(), original, 409),
        ("DELETE", ONE_LETTER, at(&one, "?x=1"), none.clone(), 400),
        ("DELETE", ONE_LETTER, one.clone(), none.clone(), 422),
        (
            "DELETE",
            ONE_LETTER,
            at(&unknown, "?reason=r"),
            none.clone(),
            404,
        ),
        (
            "DELETE",
            ONE_LETTER,
            at(&one, "?reason=r"),
            none.clone(),
            200,
        ),
        ("DELETE", DLQ, DLQ.to_owned(), none.clone(), 200),
        ("DELETE", DLQ, at(DLQ, "?x=1"), none.clone(), 400),
        ("DELETE", DLQ, at(DLQ, "?expect=5"), none.clone(), 422),
        (
            "DELETE",
            DLQ,
            at(DLQ, "?expect=5&reason=r"),
            none.clone(),
            409,
        ),
        (
            "DELETE",
            DLQ,
            at(DLQ, "?expect=2&reason=r"),
            none.clone(),
            200,
        ),
        ("GET", STREAMS[0], STREAMS[0].to_owned(), none.clone(), 200),
        ("GET", STREAMS[0], at(STREAMS[0], "?x=1"), none.clone(), 400),
        ("GET", STREAMS[1], STREAMS[1].to_owned(), none.clone(), 200),
        ("GET", STREAMS[1], at(STREAMS[1], "?x=1"), none, 400),
    ]
}

/// What is asked of the caches.
fn cache_steps() -> [LetterStep; 2] {
    let step = |query: &str, status| ("GET", CACHE, format!("{CACHE}{query}"), Vec::new(), status);
    [step("", 200), step("?x=1", 400)]
}

/// What is asked of the pauses.
fn pause_steps() -> Vec<LetterStep> {
    let pause = br#"{"group":"g","seconds":60,"reason":"r"}"#.to_vec();
    let shorter = br#"{"group":"g","seconds":1,"reason":"r"}"#.to_vec();
    let step = |method, query: &str, body, status| {
        (method, PAUSES, format!("{PAUSES}{query}"), body, status)
    };
    vec![
        step("POST", "", pause, 200),
        step("POST", "", shorter, 409),
        step("POST", "", b"{".to_vec(), 400),
        step("POST", "", b"{}".to_vec(), 422),
        step("POST", "", vec![b' '; 3 << 20], 413),
        step("GET", "", Vec::new(), 200),
        step("GET", "?x=1", Vec::new(), 400),
        step("DELETE", "?group=g&reason=r", Vec::new(), 200),
        step("DELETE", "?x=1", Vec::new(), 400),
        step("DELETE", "", Vec::new(), 422),
    ]
}

const ONE_SAGA: &str = "/api/monitoring/sagas/{id}";
const GRAPH: &str = "/api/monitoring/sagas/{id}/graph";
const ORDERS: &str = "/api/monitoring/sagas/{id}/orders";
const IMPORTS: &str = "/api/monitoring/imports";
const MANY_ORDERS: &str = "/api/monitoring/sagas/orders";
const FORESEEN: &str = "/api/monitoring/saga-definitions/{id}";

/// What is asked of a parked saga whose engine is gone by then.
fn saga_steps(id: &str) -> Vec<LetterStep> {
    let at = |path: &str, id: &str, query: &str| format!("{}{query}", path.replace("{id}", id));
    let (unknown, trip) = (id::new().to_string(), "trip");
    let get = |path, id: &str, query: &str, status| {
        ("GET", path, at(path, id, query), Vec::new(), status)
    };
    let post = |id: &str, body: &str, status| {
        let body = body.as_bytes().to_vec();
        ("POST", ORDERS, at(ORDERS, id, ""), body, status)
    };
    let many = |body: &str, status| {
        let body = body.as_bytes().to_vec();
        ("POST", MANY_ORDERS, MANY_ORDERS.to_owned(), body, status)
    };
    let skip = r#"{"order":"skip","step":"hotel","reason":"r"}"#;
    vec![
        get(IMPORTS, id, "?state=open", 200),
        get(IMPORTS, id, "?state=gone", 400),
        many("{", 400),
        many(r#"{"order":"cancel","reason":"r"}"#, 422),
        many(&" ".repeat(3 << 20), 413),
        many(
            r#"{"order":"cancel","filter":{"definition":"trip","state":"parked"},"max":1,"reason":"r"}"#,
            200,
        ),
        get(SAGAS, id, "", 200),
        get(SAGAS, id, "?x=1", 400),
        get(ONE_SAGA, id, "", 200),
        get(ONE_SAGA, id, "?x=1", 400),
        get(ONE_SAGA, id, "?unmask=true", 422),
        get(ONE_SAGA, &unknown, "", 404),
        get(GRAPH, id, "", 200),
        get(GRAPH, id, "?x=1", 400),
        get(GRAPH, &unknown, "", 404),
        get(DEFINITIONS, id, "", 200),
        get(DEFINITIONS, id, "?x=1", 400),
        get(FORESEEN, trip, "?takes.hotel=5", 200),
        get(FORESEEN, trip, "?takes.hotel=soon", 400),
        get(FORESEEN, "none", "", 404),
        post(id, "{", 400),
        post(id, "{}", 422),
        post(&unknown, skip, 404),
        post(id, &" ".repeat(3 << 20), 413),
        post(id, &skip.replace("hotel", "flight"), 409),
        post(id, skip, 202),
    ]
}

async fn call(client: &HttpClient, method: &str, path: &str, body: &[u8]) -> Answer {
    let kind = [("content-type", "application/json")];
    let kind = if body.is_empty() { &[][..] } else { &kind[..] };
    client.request(method, path, kind, body).await.unwrap()
}

/// Everything that operators can be answered.
pub(super) async fn operators(seen: &mut Seen, document: &serde_json::Value) {
    let door = Door::with(|plan| plan.settings.body.timeout = Duration::from_millis(100)).await;
    let user = door.client("ann").await;
    for _ in 0..3 {
        door.bury(&user, "code").await;
    }
    let member = ConsumerName::new("w");
    let sub = Subscription::new(door.lanes.clone(), GroupName::new("g"), member);
    door.bus.ensure_group(&sub).await.unwrap();
    let token = door.token("ops", &["admin"]).await;
    let ops = door.anybody().with_token(&token);
    let page = ops.get(DLQ).await.unwrap().json().unwrap();
    let one = format!("{DLQ}/{}", page["letters"][0]["id"].as_str().unwrap());
    let (parked, other) = (door.park().await, door.park().await);
    let done = br#"{"order":"supply","step":"hotel","reason":"r"}"#;
    let answer = call(&ops, "POST", &ORDERS.replace("{id}", &other.id), done).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    seen.see(document, "post", ORDERS, &answer);
    other.tasks.join(Duration::from_secs(5)).await;
    parked.tasks.join(Duration::from_secs(5)).await;
    let steps = letter_steps(&one)
        .into_iter()
        .chain(pause_steps())
        .chain(cache_steps());
    for (method, at, path, body, status) in steps.chain(saga_steps(&parked.id)) {
        let answer = call(&ops, method, &path, &body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        seen.see(document, &method.to_lowercase(), at, &answer);
    }
    let routes = [
        ("GET", STREAMS[0], STREAMS[0]),
        ("GET", STREAMS[1], STREAMS[1]),
        ("GET", CACHE, CACHE),
        ("GET", DLQ, DLQ),
        ("DELETE", DLQ, DLQ),
        ("GET", ONE_LETTER, &one),
        ("PATCH", ONE_LETTER, &one),
        ("DELETE", ONE_LETTER, &one),
        ("POST", REPLAY, REPLAY),
        ("GET", PAUSES, PAUSES),
        ("POST", PAUSES, PAUSES),
        ("DELETE", PAUSES, PAUSES),
        ("GET", SAGAS, SAGAS),
        ("GET", ONE_SAGA, &ONE_SAGA.replace("{id}", &parked.id)),
        ("GET", GRAPH, &GRAPH.replace("{id}", &parked.id)),
        ("POST", ORDERS, &ORDERS.replace("{id}", &parked.id)),
        ("POST", MANY_ORDERS, MANY_ORDERS),
        ("GET", IMPORTS, IMPORTS),
        ("GET", DEFINITIONS, DEFINITIONS),
        ("GET", FORESEEN, &FORESEEN.replace("{id}", "trip")),
    ];
    for (method, at, path) in routes {
        for answer in refusals(&door, &token, method, path).await {
            seen.see(document, &method.to_lowercase(), at, &answer);
        }
    }
    door.execute("ALTER TABLE api_tokens RENAME TO gone").await;
    let stranger = door.anybody().with_token("rb_test_0123456789abcdef_00");
    for (method, at, path) in routes {
        let answer = call(&stranger, method, path, b"").await;
        assert_eq!(answer.status, 503);
        seen.see(document, &method.to_lowercase(), at, &answer);
    }
}

/// Without a token, without the scope, and with a body that is none.
async fn refusals(door: &Door, token: &str, method: &str, path: &str) -> Vec<Answer> {
    let nobody = door.with_scopes(&["find"]).await;
    let mut answers = vec![
        call(&door.anybody(), method, path, b"").await,
        call(&nobody, method, path, b"").await,
    ];
    if matches!(method, "POST" | "PATCH") {
        let plain = [("content-type", "text/plain")];
        let ops = door.anybody().with_token(token);
        answers.push(ops.request(method, path, &plain, b"x").await.unwrap());
        answers.push(slow_as(door, token, method, path).await);
    }
    answers
}
