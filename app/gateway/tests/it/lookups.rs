//! What is known of a value.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use ratebox_cache::{Cache, Tier};
use ratebox_gateway::{LOOKUP_CACHE, LookupWatch, WhoseRecords, lookup_tag};
use ratebox_intake::{LookupKind, item_id};
use ratebox_kit::{Clock, Timestamp, id};
use ratebox_store::{Batch, ItemRow, Rewrite, Stamp};
use ratebox_testkit::{Answer, HttpClient, wait_until};
use serde_json::{Value, json};

use crate::canary::Captured;
use crate::door::{Door, Plan, post};

const LOOKUP: &str = "/api/lookup";

/// Records an item as a worker does.
pub(crate) async fn record(door: &Door, owner: &str, phone: &str, done: bool) {
    let (now, request) = (door.store.clock().now(), id::new());
    let e164 = format!("+84{}", phone.trim_start_matches('0'));
    let mut batch = Batch::new(Rewrite::Never);
    let stamp = Stamp {
        ruleset: "1.0.0",
        group: "group",
        consumer: "worker",
        started_at: now,
        completed_at: now,
    };
    batch.item(&ItemRow {
        id: item_id(request, 0),
        request_id: request,
        item_no: 0,
        payload: "{}",
        source: if done { "extension" } else { "importer" },
        done,
        result: None,
        error: None,
        phone: Some(&e164),
        bank_account: Some("0071000123456"),
        email: Some("an@example.com"),
        profile: "classic",
        confidence: 0.95,
        owner,
        stream_id: "1-1",
        retry_count: 0,
    });
    let statements = batch.into_statements(&stamp).unwrap();
    door.store.db().run(statements).await.unwrap();
}

async fn get(client: &HttpClient, tail: &str) -> Answer {
    client.get(&format!("{LOOKUP}/{tail}")).await.unwrap()
}

async fn known(client: &HttpClient, tail: &str) -> Value {
    let answer = get(client, tail).await;
    assert_eq!(answer.status, 200, "{tail}: {}", answer.text());
    answer.json().unwrap()
}

async fn many(client: &HttpClient, body: &Value) -> Value {
    let answer = client.post_json(LOOKUP, body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json().unwrap()["results"].take()
}

fn code(answer: &Answer) -> (u16, String) {
    let body = answer.json().unwrap();
    (answer.status, body["code"].as_str().unwrap().to_owned())
}

/// Answers live until they are invalidated.
fn long_lived(plan: &mut Plan) {
    plan.settings.lookups.max_age = Duration::from_secs(60);
}

#[tokio::test]
async fn a_value_is_known_by_verdict_and_source_however_it_is_written() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    for done in [true, true, false] {
        record(&door, "ann", "0912345678", done).await;
    }
    let expected = json!({
        "kind": "phone", "value": "+84912345678", "known": true, "seen": 3, "at_least": false,
        "verdicts": { "DONE": 2, "ERROR": 1 }, "sources": { "extension": 2, "importer": 1 },
        "other_sources": 0,
    });
    for spelling in ["0912345678", "%2B84912345678", "+84%20912%20345%20678"] {
        let mut seen = known(&client, &format!("phone/{spelling}")).await;
        let times = ["first_seen_at", "last_seen_at", "as_of"];
        for time in times {
            let time = seen.as_object_mut().unwrap().remove(time).unwrap();
            assert!(time.as_str().unwrap().parse::<Timestamp>().is_ok());
        }
        assert_eq!(seen, expected, "{spelling}");
    }
    assert_eq!(known(&client, "email/An%40Example.com").await["seen"], 3);
    assert_eq!(
        known(&client, "bank_account/0071-000-123456").await["seen"],
        3
    );
    let answer = get(&client, "phone/0912345678").await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(
        answer
            .header("ratelimit-policy")
            .unwrap()
            .contains("q=1000000")
    );
}

#[tokio::test]
async fn a_value_that_nobody_sent_is_an_answer() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let expected = json!({
        "kind": "email", "value": "an@example.com", "known": false, "seen": 0, "at_least": false,
        "verdicts": { "DONE": 0, "ERROR": 0 }, "sources": {}, "other_sources": 0,
        "first_seen_at": null, "last_seen_at": null,
    });
    assert_eq!(known(&client, "email/an@example.com").await, expected);
}

#[tokio::test]
async fn an_owner_knows_its_own_records_unless_all_are_everybodys() {
    for (whose, ann, eve) in [(WhoseRecords::Own, 1, 0), (WhoseRecords::All, 1, 1)] {
        let door = Door::with(|plan| plan.settings.lookups.whose = whose).await;
        record(&door, "ann", "0912345678", true).await;
        for (owner, seen) in [("ann", ann), ("eve", eve)] {
            let client = door.client(owner).await;
            let answer = known(&client, "phone/0912345678").await;
            assert_eq!(answer["seen"], seen, "{whose:?} {owner}");
            let values = json!({ "kind": "phone", "values": ["0912345678"] });
            assert_eq!(many(&client, &values).await[0]["seen"], seen, "{whose:?}");
            assert!(!answer.to_string().contains("ann"), "{answer}");
        }
    }
}

#[tokio::test]
async fn many_values_are_answered_in_order_with_what_cannot_be_read() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    record(&door, "ann", "0912345678", true).await;
    let body = json!({ "kind": "phone", "values": [
        "0912345679", "nonsense", "0912345678", "+84 912 345 678",
        { "kind": "email", "value": "an@example.com" }, { "value": "0912345678" },
    ]});
    let results = many(&client, &body).await;
    let seen: Vec<_> = results
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["seen"].as_u64())
        .collect();
    assert_eq!(seen, [0, 0, 1, 1, 1, 1].map(Some), "{results}");
    assert_eq!(results[1]["error"], "lookup.unreadable");
    assert_eq!(results[1]["value"], Value::Null);
    assert_eq!(results[0]["error"], Value::Null);
    assert_eq!(results[4]["kind"], "email");
    let all: Vec<String> = (300..800).map(|n| format!("0912345{n}")).collect();
    let results = many(&client, &json!({ "kind": "phone", "values": all })).await;
    let known = results
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["known"] == true);
    assert_eq!((results.as_array().unwrap().len(), known.count()), (500, 1));
    let nothing = many(&client, &json!({ "kind": "email", "values": ["x", "y"] })).await;
    assert_eq!(nothing[1]["error"], "lookup.unreadable");
}

#[tokio::test]
async fn what_cannot_be_looked_up_is_refused_with_a_reason() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let long = "9".repeat(600);
    for (tail, expected) in [
        ("name/An", (400, "lookup.unknown_kind")),
        ("Phone/0912345678", (400, "lookup.unknown_kind")),
        ("phone/x", (422, "lookup.unreadable")),
        ("phone/%ff%fe", (422, "lookup.unreadable")),
        ("phone/%00", (422, "lookup.unreadable")),
        ("phone/%zz", (422, "lookup.unreadable")),
        ("email/an", (422, "lookup.unreadable")),
        ("email/a@b", (422, "lookup.unreadable")),
        ("email/a%20b@example.com", (422, "lookup.unreadable")),
        ("phone/0912345678?fresh=1", (400, "query.unknown_parameter")),
        ("phone/", (404, "route.unknown")),
        ("phone", (404, "route.unknown")),
        ("phone/1/2", (404, "route.unknown")),
        (&format!("bank_account/{long}"), (422, "lookup.unreadable")),
    ] {
        let (status, word) = code(&get(&client, tail).await);
        assert_eq!((status, &*word), expected, "{tail}");
    }
}

#[tokio::test]
async fn many_values_that_cannot_be_looked_up_are_refused_with_a_reason() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let many = vec!["0912345678"; 501];
    for (body, expected) in [
        (
            json!({ "kind": "phone", "values": many }),
            (413, "lookup.too_many"),
        ),
        (
            json!({ "kind": "phone", "values": [] }),
            (400, "list.empty"),
        ),
        (
            json!({ "kind": "name", "values": ["An"] }),
            (400, "lookup.unknown_kind"),
        ),
        (json!({ "values": ["0912345678"] }), (422, "body.invalid")),
        (
            json!({ "values": [{ "kind": 7, "value": "x" }] }),
            (422, "body.invalid"),
        ),
        (
            json!({ "values": [{ "kind": "phone" }] }),
            (422, "body.invalid"),
        ),
        (
            json!({ "values": [{ "kind": "phone", "value": "1", "x": 1 }] }),
            (422, "body.invalid"),
        ),
        (
            json!({ "kind": "phone", "values": [null] }),
            (422, "body.invalid"),
        ),
        (
            json!({ "kind": "phone", "values": "0912345678" }),
            (422, "body.invalid"),
        ),
        (json!(["0912345678"]), (422, "body.invalid")),
        (json!(["phone", ["0912345678"]]), (422, "body.invalid")),
        (
            json!({ "kind": "phone", "values": ["1"], "x": 1 }),
            (422, "body.invalid"),
        ),
    ] {
        let (status, word) = code(&client.post_json(LOOKUP, &body).await.unwrap());
        assert_eq!((status, &*word), expected, "{body}");
    }
    assert_eq!(
        client
            .request("DELETE", LOOKUP, &[], b"")
            .await
            .unwrap()
            .status,
        405
    );
}

#[tokio::test]
async fn looking_up_takes_the_scope_and_counts_against_its_own_limit() {
    let door = Door::open().await;
    let writer = door
        .token("ann", &["validation:write", "import:read"])
        .await;
    let writer = door.anybody().with_token(&writer);
    assert_eq!(get(&writer, "phone/0912345678").await.status, 403);
    assert_eq!(get(&door.anybody(), "phone/0912345678").await.status, 401);
    let token = door.make_token("ann", &["validation:read"], |_| {}).await;
    let reader = door.anybody().with_token(&token);
    let answer = get(&reader, "phone/0912345678").await;
    assert_eq!(
        answer.header("ratelimit-policy"),
        Some("\"lookup\";q=600;w=60")
    );
    assert!(answer.header("ratelimit").unwrap().contains("r=599"));
}

/// Invalidates as a worker does.
async fn forget(tier: &Tier, phone: &str) {
    let caches: Cache<str, ()> = Cache::builder(LOOKUP_CACHE, tier).build().unwrap();
    let tag = lookup_tag(LookupKind::Phone.bucket(phone));
    caches.invalidate_tags(&[tag]).await.unwrap();
}

#[tokio::test]
async fn a_recorded_value_is_seen_as_soon_as_its_bucket_is_invalidated() {
    let tier = Tier::none();
    let below = tier.clone();
    let door = Door::with(|plan| {
        long_lived(plan);
        plan.lookups.tier = below;
    })
    .await;
    let client = door.client("ann").await;
    let values = json!({ "kind": "phone", "values": ["0912345678", "0912345679"] });
    for seen in 0..3 {
        assert_eq!(known(&client, "phone/0912345678").await["seen"], seen);
        record(&door, "ann", "0912345678", true).await;
        // That nothing is known is kept like anything else.
        assert_eq!(known(&client, "phone/0912345678").await["seen"], seen);
        assert_eq!(many(&client, &values).await[0]["seen"], seen);
        forget(&tier, "+84912345679").await;
        assert_eq!(known(&client, "phone/0912345678").await["seen"], seen);
        forget(&tier, "+84912345678").await;
        assert_eq!(many(&client, &values).await[0]["seen"], seen + 1);
    }
}

#[tokio::test]
async fn no_answer_is_older_than_its_longest_age_though_nobody_invalidates() {
    let clock = Clock::manual(Clock::system().now());
    let of_door = clock.clone();
    let door = Door::with(|plan| plan.clock = of_door).await;
    let client = door.client("ann").await;
    assert_eq!(known(&client, "phone/0912345678").await["known"], false);
    record(&door, "ann", "0912345678", true).await;
    assert_eq!(known(&client, "phone/0912345678").await["known"], false);
    clock.advance(Duration::from_secs(1));
    assert_eq!(known(&client, "phone/0912345678").await["seen"], 1);
    record(&door, "ann", "0912345678", true).await;
    // In the second half of its life it is refreshed behind the reader's back.
    clock.advance(Duration::from_millis(600));
    wait_until(Duration::from_secs(5), "the refresh", || async {
        known(&client, "phone/0912345678").await["seen"] == 2
    })
    .await;
}

/// Remembers what was said.
#[derive(Default)]
struct Said(Mutex<Vec<Vec<u16>>>);

#[async_trait]
impl LookupWatch for Said {
    async fn watch(&self, buckets: &[u16]) {
        self.0.lock().unwrap().push(buckets.to_vec());
        // Long enough for all readers to come.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_crowd_loads_once_and_says_first_what_it_looks_into() {
    let said = Arc::new(Said::default());
    let watch = Arc::clone(&said);
    let door = Door::with(|plan| {
        long_lived(plan);
        plan.lookups.watch = Some(watch);
    })
    .await;
    let client = door.client("ann").await;
    record(&door, "ann", "0912345678", true).await;
    let crowd = (0..50).map(|_| known(&client, "phone/0912345678"));
    for answer in join_all(crowd).await {
        assert_eq!(answer["seen"], 1);
    }
    let bucket = LookupKind::Phone.bucket("+84912345678");
    assert_eq!(*said.0.lock().unwrap(), [vec![bucket]]);
    let values = json!({ "kind": "phone", "values": ["0912345678", "0912345679", "0912345670"] });
    many(&client, &values).await;
    let said = said.0.lock().unwrap();
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(
        said[1].len(),
        2,
        "what is cached is not looked into: {said:?}"
    );
}

#[tokio::test]
async fn a_store_that_is_away_is_stood_in_for_and_nothing_of_a_value_is_logged() {
    let captured = Captured::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(captured.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let clock = Clock::manual(Clock::system().now());
    let of_door = clock.clone();
    let door = Door::with(|plan| plan.clock = of_door).await;
    let client = door.client("ann").await;
    record(&door, "ann", "0907654321", true).await;
    let before = known(&client, "phone/0907654321").await;
    door.execute("ALTER TABLE raw_items RENAME TO gone").await;
    clock.advance(Duration::from_secs(10));
    assert_eq!(known(&client, "phone/0907654321").await, before);
    let body = json!({ "kind": "phone", "values": ["0907654322"] }).to_string();
    let answers = [
        get(&client, "phone/0907654329").await,
        get(&client, "email/canary%40planted.example").await,
        get(&client, "email/canary.planted.example").await,
        get(&client, "name/0907654323").await,
        get(&client, "phone/0907654324/x").await,
        post(&client, LOOKUP, body.as_bytes()).await,
    ];
    let statuses = answers.each_ref().map(|it| it.status);
    assert_eq!(statuses, [503, 503, 422, 400, 404, 503]);
    clock.advance(Duration::from_secs(60));
    assert_eq!(get(&client, "phone/0907654321").await.status, 503);
    let logged = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("lookup.unavailable"), "{logged}");
    let told: String = answers.iter().map(Answer::text).collect();
    for planted in ["90765432", "canary", "planted"] {
        assert!(!logged.contains(planted), "{planted}: {logged}");
        assert!(!told.contains(planted), "{planted}: {told}");
    }
}
