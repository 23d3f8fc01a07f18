//! Bad input: each ends in a clear refusal, never in a 5xx, and leaves nothing behind.

use std::time::Duration;

use ratebox_intake::decode;
use ratebox_kit::Stopwatch;
use serde_json::json;

use crate::door::{BATCH, BULK, Door, IMPORT, ITEM, VALIDATE, code_of, post, post_with};
use crate::framing::exchange;

/// Posts a body and expects status and code, quickly.
async fn check(door: &Door, body: &[u8], status: u16, code: &str) {
    let client = door.client("ann").await;
    let watch = Stopwatch::start();
    let answer = post(&client, VALIDATE, body).await;
    let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
    assert_eq!(
        (answer.status, code_of(&answer).as_str()),
        (status, code),
        "{shown}"
    );
    assert!(
        watch.elapsed() < Duration::from_secs(2),
        "{shown} took {:?}",
        watch.elapsed()
    );
    assert!(door.requests().await == 0, "{shown}");
}

#[tokio::test]
async fn what_is_not_json_is_said_to_be_malformed() {
    let door = Door::open().await;
    for body in [
        "",
        "{",
        "nope",
        "{\"items\":[}",
        "{\"items\":[1,]}",
        "[1] 2",
        "{'a':1}",
        "NaN",
    ] {
        check(&door, body.as_bytes(), 400, "json.malformed").await;
    }
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let open = open.repeat(100_000);
        check(&door, open.as_bytes(), 400, "json.malformed").await;
        let deep = format!("{{\"items\":[{open}1{}]}}", close.repeat(100_000));
        check(&door, deep.as_bytes(), 400, "json.depth").await;
        let bare = format!("{{\"a\":{open}1{}}}", close.repeat(100_000));
        check(&door, bare.as_bytes(), 400, "json.depth").await;
    }
}

#[tokio::test]
async fn what_no_store_can_keep_is_unprocessable() {
    let door = Door::open().await;
    check(
        &door,
        b"{\"items\":[{\"name\":\"\xff\"}]}",
        422,
        "json.not_utf8",
    )
    .await;
    check(
        &door,
        br#"{"items":[{"name":"a\u0000b"}]}"#,
        422,
        "json.nul_character",
    )
    .await;
    check(
        &door,
        br#"{"items":[{"a\u0000":1}]}"#,
        422,
        "json.nul_character",
    )
    .await;
    check(
        &door,
        br#"{"items":[{"name":"\ud800"}]}"#,
        422,
        "json.lone_surrogate",
    )
    .await;
    check(
        &door,
        br#"{"items":[{"n":1e999999}]}"#,
        422,
        "json.number_out_of_range",
    )
    .await;
    check(&door, br#"{"name":"a\u0000b"}"#, 422, "json.nul_character").await;
}

#[tokio::test]
async fn the_shape_of_a_body_is_checked() {
    let door = Door::open().await;
    for (body, status, code) in [
        ("[]", 422, "body.not_an_object"),
        ("7", 422, "body.not_an_object"),
        ("{}", 400, "items.empty"),
        (r#"{"items":[]}"#, 400, "items.empty"),
        (r#"{"items":7}"#, 422, "items.not_a_list"),
        (r#"{"items":[{}],"source":7}"#, 422, "field.wrong_type"),
        (
            r#"{"items":[{}],"priority":"urgent"}"#,
            422,
            "field.unknown_word",
        ),
        (
            r#"{"items":[{}],"profile":"lax"}"#,
            422,
            "field.unknown_word",
        ),
        (
            r#"{"items":[{}],"action":"delete"}"#,
            422,
            "field.unknown_word",
        ),
        (r#"{"items":[{}],"items":[{}]}"#, 422, "field.repeated"),
        (
            r#"{"items":[{},{"phone":"1","phone":"2"}]}"#,
            422,
            "field.repeated",
        ),
        (r#"{"email":"a@b.c","email":7}"#, 422, "field.repeated"),
    ] {
        check(&door, body.as_bytes(), status, code).await;
    }
    let long = json!({"items": [{}], "external_ref": "x".repeat(256)}).to_string();
    check(&door, long.as_bytes(), 422, "field.too_long").await;
    let many = json!({"items": vec![json!({}); 1001]}).to_string();
    check(&door, many.as_bytes(), 413, "items.too_many").await;
    let client = door.client("ann").await;
    for (path, body) in [
        (BATCH, r#"{"batches":{}}"#),
        (BULK, r#"{"datasets":[7]}"#),
        (IMPORT, "[]"),
    ] {
        assert_eq!(
            post(&client, path, body.as_bytes()).await.status,
            422,
            "{path}"
        );
    }
    for (path, body, text) in [
        (BATCH, "{}", "batches provided"),
        (BULK, "{}", "datasets provided"),
        (IMPORT, "{}", "items provided"),
        (
            BATCH,
            r#"{"batches":[{"items":[1]},{}]}"#,
            "items provided for validation (entry 1 of batches)",
        ),
    ] {
        let answer = post(&client, path, body.as_bytes()).await;
        assert_eq!(answer.status, 400);
        assert!(
            answer.text().contains(&format!("No {text}")),
            "{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn a_refusal_names_the_batch_or_dataset_that_it_is_about() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    for (path, list) in [(BATCH, "batches"), (BULK, "datasets")] {
        for (entry, code) in [
            (r#"{"items":[{},{"n":1e999}]}"#, "json.number_out_of_range"),
            (r#"{"items":[{}],"source":7}"#, "field.wrong_type"),
            (r#"{"items":[{}],"profile":"lax"}"#, "field.unknown_word"),
            (r#"{"items":[{}],"webhook_url":"x"}"#, "webhook.unavailable"),
            (r#"{"items":[]}"#, "items.empty"),
            (r#"{"items":7}"#, "items.not_a_list"),
            ("7", "part.not_an_object"),
        ] {
            let body = format!(r#"{{"{list}":[{{"items":[{{}}]}},{entry}]}}"#);
            let answer = post(&client, path, body.as_bytes()).await;
            assert_eq!(code_of(&answer), code, "{body}");
            let problem = answer.json().unwrap();
            let errors = json!([{
                "pointer": format!("#/{list}/1"), "detail": problem["detail"],
            }]);
            assert_eq!(problem["errors"], errors, "{body}");
        }
        // What is said for all of them is about none.
        for rest in [r#""source":7"#, r#""webhook_url":"x""#] {
            let body = format!(
                r#"{{"{list}":[{{"items":[{{}}]}},{{"items":[{{}}]}}],"defaults":{{{rest}}}}}"#
            );
            let answer = post(&client, path, body.as_bytes()).await;
            assert_eq!(answer.status, 422, "{body}");
            assert!(answer.json().unwrap()["errors"].is_null(), "{body}");
        }
    }
    assert_eq!(door.requests().await, 0);
}

/// A client that says `?profile=strict` must not be judged by another one.
#[tokio::test]
async fn a_submission_takes_no_parameters() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    for path in [VALIDATE, IMPORT, BATCH, BULK] {
        for query in ["profile=strict", "wait=5", "x"] {
            let answer = post(&client, &format!("{path}?{query}"), ITEM.as_bytes()).await;
            assert_eq!(answer.status, 400, "{path} {query}");
            assert_eq!(
                code_of(&answer),
                "query.unknown_parameter",
                "{path} {query}"
            );
        }
    }
    assert_eq!(door.requests().await, 0);
    let nothing = post(&client, &format!("{VALIDATE}?"), ITEM.as_bytes()).await;
    assert_eq!(nothing.status, 202);
}

#[tokio::test]
async fn a_thousand_items_and_one_bad_one_among_them_are_taken() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let mut items = vec![json!({"phone": "0909123456"}); 999];
    items.insert(500, json!(["not", "an", "object"]));
    let answer = client
        .post_json(VALIDATE, &json!({"items": items}))
        .await
        .unwrap();
    assert_eq!(
        (answer.status, answer.json().unwrap()["item_count"].as_u64()),
        (202, Some(1000))
    );
}

#[tokio::test]
async fn a_lower_limit_of_items_is_kept_at_the_door() {
    let door = Door::with(|plan| plan.settings.body.items_max = 2).await;
    let client = door.client("ann").await;
    for (path, items) in [(VALIDATE, 2), (IMPORT, 2), (VALIDATE, 3), (IMPORT, 3)] {
        let body = json!({ "items": vec![json!({}); items] });
        let answer = client.post_json(path, &body).await.unwrap();
        let expected = if items == 2 { 202 } else { 413 };
        assert_eq!(answer.status, expected, "{path}: {}", answer.text());
    }
    let batch = json!({ "batches": [{ "items": [{}, {}, {}] }] });
    let answer = client.post_json(BATCH, &batch).await.unwrap();
    assert_eq!(answer.status, 413, "{}", answer.text());
}

#[tokio::test]
async fn strange_but_lawful_json_is_kept_as_it_came() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let item = "{\"name\":\"a\\r\\n*3\\r\\n$4\\r\\nXADD'; DROP TABLE x;--\",\"n\":-0,\"m\":9223372036854775808,\"n\":1}";
    assert_eq!(post(&client, VALIDATE, item.as_bytes()).await.status, 202);
    door.published("validation_requests", 1).await;
    let entries = door.bus.entries("validation_requests").await;
    let request = decode(&entries[0].fields, 10).unwrap();
    assert_eq!(request.items[0].json(), item);
}

#[tokio::test]
async fn many_and_long_keys_cost_no_quadratic_time() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let keys: Vec<String> = (0..100_000)
        .map(|number| format!("\"k{number}\":1"))
        .collect();
    let many = format!("{{\"items\":[{{{}}}]}}", keys.join(","));
    let outer = format!("{{{}}}", keys.join(","));
    let same = format!("{{\"items\":[{{{}}}]}}", vec!["\"k\":1"; 200_000].join(","));
    let long = format!("{{\"items\":[{{\"{}\":1}}]}}", "k".repeat(1_000_000));
    for body in [many, outer, same, long] {
        let watch = Stopwatch::start();
        let answer = post(&client, VALIDATE, body.as_bytes()).await;
        assert!(
            [202, 400, 422].contains(&answer.status),
            "{}",
            answer.status
        );
        assert!(
            watch.elapsed() < Duration::from_secs(2),
            "{:?}",
            watch.elapsed()
        );
    }
}

#[tokio::test]
async fn only_plain_json_is_read() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let bomb = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    for coding in ["gzip", "gzip, gzip", "br", "deflate", "zstd", "nonsense"] {
        let headers = [("content-encoding", coding)];
        let answer = post_with(&client, VALIDATE, &headers, &bomb).await;
        assert_eq!(
            (answer.status, code_of(&answer).as_str()),
            (415, "body.encoding"),
            "{coding}"
        );
    }
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
        "",
    ] {
        let headers = [("content-type", kind)];
        let answer = client
            .request("POST", VALIDATE, &headers, ITEM.as_bytes())
            .await
            .unwrap();
        assert_eq!(
            (answer.status, code_of(&answer).as_str()),
            (415, "body.type"),
            "{kind}"
        );
    }
    let answer = client
        .request("POST", VALIDATE, &[], ITEM.as_bytes())
        .await
        .unwrap();
    assert_eq!(answer.status, 415);
    let plain = [("content-encoding", "identity")];
    assert_eq!(
        post_with(&client, VALIDATE, &plain, ITEM.as_bytes())
            .await
            .status,
        202
    );
}

#[tokio::test]
async fn too_much_is_refused_before_it_is_read() {
    let door = Door::open().await;
    let token = door.token("ann", &["admin"]).await;
    let head = format!(
        "POST {VALIDATE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    );
    // Nothing of the announced body is ever sent.
    let announced = format!("{head}Content-Length: 2097153\r\n\r\n");
    let seen = exchange(&door, announced.as_bytes()).await;
    assert_eq!((seen.status, seen.closed), (Some(413), true));
    let polite = format!("{head}Content-Length: 2097153\r\nExpect: 100-continue\r\n\r\n");
    let seen = exchange(&door, polite.as_bytes()).await;
    assert_eq!((seen.status, seen.closed), (Some(413), true));
    let body = vec![b' '; 3 << 20];
    let client = door.anybody().with_token(&token);
    let answer = post(&client, VALIDATE, &body).await;
    assert_eq!(
        (answer.status, code_of(&answer).as_str()),
        (413, "body.too_large")
    );
    // Without an announcement the reading ends at the limit.
    let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..3 {
        chunked.extend_from_slice(b"100000\r\n");
        chunked.extend(vec![b' '; 1 << 20]);
        chunked.extend_from_slice(b"\r\n");
    }
    let seen = exchange(&door, &chunked).await;
    assert_eq!((seen.status, seen.closed), (Some(413), true));
    // The limit itself is allowed.
    let mut body = ITEM.as_bytes().to_vec();
    body.resize(2 << 20, b' ');
    assert_eq!(post(&client, VALIDATE, &body).await.status, 202);
}

#[tokio::test]
async fn unknown_methods_and_paths_are_refused() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    for method in [
        "TRACE", "CONNECT", "PUT", "DELETE", "PATCH", "OPTIONS", "GET", "PURGE",
    ] {
        let answer = client.request(method, VALIDATE, &[], b"").await.unwrap();
        assert_eq!(
            (answer.status, code_of(&answer).as_str()),
            (405, "method.not_allowed"),
            "{method}"
        );
        assert_eq!(answer.header("allow"), Some("POST"));
    }
    for (method, path) in [
        ("TRACE", "/"),
        ("CONNECT", "example.com:443"),
        ("TRACE", "*"),
    ] {
        assert_eq!(
            client.request(method, path, &[], b"").await.unwrap().status,
            405,
            "{method}"
        );
    }
    for path in [
        "/",
        "/metrics",
        "/console",
        "/api",
        "/api/validation/validate/",
        "/API/health",
        "/api/validation/ws",
        "/api/lookup/phone/1/2",
        "/api/monitoring/nothing",
        "/api/admin/tokens",
        "/..%2f..%2fetc/passwd",
        "//api/health",
    ] {
        let answer = client.get(path).await.unwrap();
        assert_eq!(
            (answer.status, code_of(&answer).as_str()),
            (404, "route.unknown"),
            "{path}"
        );
    }
}
