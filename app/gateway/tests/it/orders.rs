//! Orders that cannot be kept: refused as a whole, with what to do about it.

use ratebox_kit::id;
use ratebox_stream::ORDERS_MAX;
use serde_json::{Value, json};

use crate::dead_letters::{DLQ, REPLAY, delete, only, patch};
use crate::door::{Door, code_of};
use crate::sagas::SAGAS;

const PAUSES: &str = "/api/monitoring/pauses";

#[tokio::test]
async fn as_many_pauses_as_the_bus_keeps_are_taken_and_the_next_is_a_conflict() {
    let door = Door::open().await;
    let ops = door
        .with_scopes(&["monitoring:read", "monitoring:write"])
        .await;
    let pause = async |number: usize| {
        let wish = json!({ "group": format!("g{number}"), "reason": "r" });
        ops.post_json(PAUSES, &wish).await.unwrap()
    };
    for number in 0..ORDERS_MAX {
        let answer = pause(number).await;
        assert_eq!(answer.status, 200, "{number}: {}", answer.text());
    }
    let refused = pause(ORDERS_MAX).await;
    assert_eq!(
        (refused.status, code_of(&refused).as_str()),
        (409, "pause.too_many")
    );
    let deeds = "SELECT count(*) FROM audit_log WHERE subject = 'g1000'";
    assert_eq!(door.count(deeds).await, 0);
    // One that stands may be ordered anew, and one that ends makes room.
    assert_eq!(pause(7).await.status, 200);
    let resumed = delete(&ops, &format!("{PAUSES}?group=g7&reason=r")).await;
    assert_eq!(resumed.status, 200);
    assert_eq!(pause(ORDERS_MAX).await.status, 200);
}

/// PostgreSQL keeps no such text, and looks for none: a pause would stand without a line in the audit
/// log.
#[tokio::test]
async fn a_text_with_u0000_is_refused_before_anything_is_done() {
    let door = Door::open().await;
    let ops = door
        .with_scopes(&["monitoring:read", "monitoring:write"])
        .await;
    let nul = "a\0b";
    let (many, one) = (
        format!("{SAGAS}/orders"),
        format!("{SAGAS}/{}/orders", id::new()),
    );
    let (many, one) = (many.as_str(), one.as_str());
    for (path, body) in [
        (PAUSES, json!({ "group": nul, "reason": "r" })),
        (PAUSES, json!({ "reason": nul })),
        (REPLAY, json!({ "filter": { "code": nul }, "reason": "r" })),
        (REPLAY, json!({ "filter": {}, "reason": nul })),
        (many, saga_wish(&json!({ "definition": nul }))),
        (many, saga_wish(&json!({ "key": nul }))),
        (one, json!({ "order": "skip", "step": nul, "reason": "r" })),
        (
            one,
            json!({ "order": "signal", "step": "s", "value": { "deep": [nul] }, "reason": "r" }),
        ),
    ] {
        let answer = ops.post_json(path, &body).await.unwrap();
        assert_eq!(
            (answer.status, code_of(&answer).as_str()),
            (422, "json.nul_character"),
            "{path} {body}"
        );
    }
    for body in [
        json!({ "data": { "phone": nul }, "reason": "r" }),
        json!({ "fields": { nul: "x" }, "reason": "r" }),
        json!({ "original": true, "reason": nul }),
    ] {
        let answer = patch(&ops, &id::new().to_string(), &body.to_string()).await;
        assert_eq!(code_of(&answer), "json.nul_character", "{body}");
    }
    let shown = ops.get(PAUSES).await.unwrap().json().unwrap();
    assert_eq!(shown, json!({ "pauses": [] }));
    assert_eq!(door.count("SELECT count(*) FROM audit_log").await, 0);
    // A backslash before it makes it six plain letters.
    let plain = json!({ "group": "a\\u0000", "reason": "r" });
    assert_eq!(ops.post_json(PAUSES, &plain).await.unwrap().status, 200);
}

fn saga_wish(filter: &Value) -> Value {
    json!({ "order": "cancel", "filter": filter, "reason": "r" })
}

#[tokio::test]
async fn a_call_with_a_misspelt_name_is_not_written_down_as_a_look() {
    let door = Door::open().await;
    door.bury(&door.client("ann").await, "x").await;
    let admin = door.with_scopes(&["admin"]).await;
    let letter = only(&admin).await;
    for path in [DLQ.to_owned(), format!("{DLQ}/{letter}")] {
        let answer = admin
            .get(&format!("{path}?unmask=true&reason=r&kode=a"))
            .await
            .unwrap();
        assert_eq!(code_of(&answer), "query.unknown_parameter", "{path}");
    }
    assert_eq!(door.count("SELECT count(*) FROM audit_log").await, 0);
}
