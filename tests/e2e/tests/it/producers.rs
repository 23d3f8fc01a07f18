//! The predecessor's producers put their shapes on the bus and get the six codes.

use std::time::Duration;

use ratebox_testkit::{Ratebox, wait_for};
use serde_json::{Value, json};

use crate::place::Place;

/// A request that comes now gets its verdict.
async fn judges(ratebox: &Ratebox) {
    let http = ratebox.admin().unwrap();
    let headers = [("content-type", "application/json"), ("prefer", "wait=20")];
    let body = serde_json::to_vec(&crate::place::request(1)).unwrap();
    let answer = http
        .request("POST", "/api/validation/validate", &headers, &body)
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Adds an entry and waits for its answer.
async fn ask(place: &Place, fields: &[&str]) -> Value {
    let mut words = vec!["XADD", "validation_requests", "*"];
    words.extend(fields);
    let entry = place.redis.command(&words).unwrap();
    let entry = entry.as_str().unwrap().to_owned();
    wait_for(
        Duration::from_secs(20),
        "the answer of a legacy message",
        || async {
            for stream in ["extension_responses", "importer_responses"] {
                let answers = place.redis.command(&["XRANGE", stream, "-", "+"]).unwrap();
                for answer in answers.as_array().unwrap() {
                    let data = answer[1][1].as_str().unwrap();
                    let data: Value = serde_json::from_str(data).unwrap();
                    let id = data["id"].as_str().unwrap();
                    let stream_id = place.postgres.sql(&format!(
                        "SELECT stream_id FROM ratebox.raw_items WHERE request_id = '{id}' LIMIT 1"
                    ));
                    if stream_id.is_ok_and(|text| text.trim() == entry) {
                        return Some(data);
                    }
                }
            }
            None
        },
    )
    .await
}

fn codes(answer: &Value) -> Vec<u64> {
    let errors = answer["results"][0]["errors"].as_array().unwrap();
    errors
        .iter()
        .map(|error| error["code"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn the_three_legacy_shapes_and_a_foreign_envelope_are_judged_by_the_six_rules() {
    let place = Place::new();
    let _ratebox = place.up().await;
    let bad =
        json!({ "phone": "123", "bank_account": "456", "email": "invalid-email", "name": "A B" });
    let item = bad.to_string();
    let answer = ask(
        &place,
        &["data", &item, "source", "test", "batch_id", "batch_1"],
    )
    .await;
    assert_eq!(codes(&answer), [101, 201, 300], "{answer}");
    assert_eq!(answer["batch_id"], "batch_1");
    let message = &answer["results"][0]["errors"][0]["message"];
    assert_eq!(message, "Phone number too short: 3 chars, minimum 10");

    let flat = [
        "name",
        "X",
        "phone",
        "0909123456",
        "bank_account",
        "12345678",
        "source",
        "importer",
    ];
    assert_eq!(codes(&ask(&place, &flat).await), [400]);

    let extension = json!({
        "request_id": "ext_req_1_abc", "user_id": "u", "action": "rate_check",
        "data": { "phone": "", "bank_account": "", "email": "", "name": "Someone" },
        "source": "browser_extension", "callback_stream": "extension_responses",
    });
    // A check is answered but not kept as an item, so it is found by its producer's id.
    let data = extension.to_string();
    place
        .redis
        .command(&["XADD", "validation_requests", "*", "data", &data])
        .unwrap();
    let answer = wait_for(
        Duration::from_secs(20),
        "the extension's answer",
        || async {
            let answers = place
                .redis
                .command(&["XRANGE", "extension_responses", "-", "+"])
                .unwrap();
            let texts = answers
                .as_array()
                .unwrap()
                .iter()
                .map(|it| it[1][1].as_str().unwrap().to_owned());
            let mut all = texts.map(|text| serde_json::from_str::<Value>(&text).unwrap());
            all.find(|answer| answer["request_id"] == "ext_req_1_abc")
        },
    )
    .await;
    assert_eq!(codes(&answer), [100, 200], "{answer}");

    let envelope = json!({
        "request_id": "req_1_x", "source": "api", "user_id": "7", "action": "validate",
        "data": { "items": [{ "phone": "0123456789", "bank_account": "12345678901" }] },
        "priority": "normal", "callback_config": { "stream": "extension_responses" },
    });
    let answer = ask(&place, &["data", &envelope.to_string()]).await;
    assert_eq!(
        (answer["status"].as_str(), answer["request_id"].as_str()),
        (Some("success"), Some("req_1_x"))
    );
    assert_eq!(
        answer["owner"], "bus",
        "a foreign producer's user is not trusted"
    );
}

#[tokio::test]
async fn what_is_no_message_becomes_a_dead_letter_at_once_and_blocks_nobody() {
    let place = Place::new();
    let ratebox = place.up().await;
    for data in [
        "{not json",
        "{\"v\":2,\"data\":{\"items\":[{}]}}",
        "[]",
        "{\"data\":{\"items\":[]}}",
    ] {
        place
            .redis
            .command(&["XADD", "validation_requests", "*", "data", data])
            .unwrap();
    }
    let nul = "{\"phone\":\"0912\\u0000345678\"}";
    place
        .redis
        .command(&["XADD", "validation_requests", "*", "data", nul])
        .unwrap();
    judges(&ratebox).await;
    wait_for(
        Duration::from_secs(20),
        "five malformed letters",
        || async {
            let letters = place.count("count(*) FROM dead_letters WHERE class = 'malformed'");
            (letters == 5).then_some(())
        },
    )
    .await;
    let view = place
        .redis
        .command(&["XRANGE", "validation_dlq", "-", "+"])
        .unwrap()
        .to_string();
    assert!(!view.contains("345678"), "the view shows a payload: {view}");
}

/// Fields that anyone may write who may append, each with what some column does not hold. One letter
/// that could not be kept would stop all judging, on every lane, for good.
#[tokio::test]
async fn whatever_a_producer_says_of_its_entry_stops_nobody() {
    let place = Place::new();
    let ratebox = place.up().await;
    let (judged, broken) = ("{\"phone\":\"0912345678\"}", "notjson");
    for (lane, field, value, data) in [
        ("validation_requests", "rb-id", "\0", broken),
        (
            "{validation_requests}:low",
            "rb-attempt",
            "2147483647",
            broken,
        ),
        ("validation_requests", "rb-attempt", "4294967295", judged),
        (
            "validation_requests",
            "rb-first-failed-ms",
            "-300000000000000",
            broken,
        ),
    ] {
        let words = ["XADD", lane, "*", field, value, "data", data];
        place.redis.command(&words).unwrap();
    }
    judges(&ratebox).await;
    wait_for(
        Duration::from_secs(20),
        "three letters and two verdicts",
        || async {
            let letters = place.count("count(*) FROM dead_letters WHERE class = 'malformed'");
            let items = place.count("count(*) FROM raw_items");
            (letters == 3 && items == 2).then_some(())
        },
    )
    .await;
    assert_eq!(place.count("count(*) FROM dead_letters"), 3);
}

/// A producer that may append can name any entry as the one that its message came first under. One that
/// is yet to come is another's.
#[tokio::test]
async fn no_producer_takes_the_place_of_a_record_that_comes_after_its_own() {
    let place = Place::new();
    let _ratebox = place.up().await;
    let own = "{\"phone\":\"0912345678\",\"bank_account\":\"12345678901\"}";
    // An id that the server gives nobody else meanwhile.
    let at = place
        .redis
        .command(&["XADD", "validation_requests", "*", "data", own]);
    let at = at.unwrap().as_str().unwrap().to_owned();
    let ms: u64 = at.split('-').next().unwrap().parse().unwrap();
    let (forged, later) = (format!("{}-0", ms + 1), format!("{}-0", ms + 2));
    let add = |words: &[&str]| {
        let words = [["XADD", "validation_requests"].as_slice(), words].concat();
        place.redis.command(&words).unwrap();
    };
    add(&[&forged, "rb-first-entry", &later, "data", own]);
    add(&[&later, "data", own]);
    add(&["*", "rb-first-entry", "281474976710655-0", "data", own]);
    wait_for(Duration::from_secs(20), "four verdicts", || async {
        (place.count("count(*) FROM raw_items") == 4).then_some(())
    })
    .await;
    let suppressed =
        "CAST(coalesce(sum(messages_suppressed), 0) AS bigint) FROM stream_consumer_stats";
    assert_eq!(place.count(suppressed), 0);
    assert_eq!(place.count("count(*) FROM raw_items_default"), 0);
}
