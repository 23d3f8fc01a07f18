//! Messages on the bus: golden texts, round trips, the older shapes, and what is no message.

use ratebox_intake::{
    Action, Answered, Decoded, Item, Lane, Malformed, Profile, Request, Response, Rules, Shape,
    Status, decode, item_id,
};
use uuid::Uuid;

use crate::item;

const ID: Uuid = Uuid::from_u128(0x0194_2f3c_9a10_7abc_8def_0123_4567_89ab);

fn read(fields: &[(&str, &str)]) -> Result<Decoded, Malformed> {
    decode(fields, 1000)
}

fn data(json: &str) -> Result<Decoded, Malformed> {
    read(&[("data", json)])
}

fn texts(items: &[Item]) -> Vec<&str> {
    items.iter().map(Item::json).collect()
}

fn full() -> Request {
    Request {
        items: vec![item(r#"{ "phone": "0912345678", "x": 1.0 }"#), item("5")],
        action: Action::Import,
        lane: Lane::Low,
        profile: Some(Profile::Strict),
        external_ref: Some("ref \"1\"".into()),
        batch_id: Some("batch".into()),
        key: Some("key".into()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        client_timestamp: "2020-01-02T03:04:05Z".parse().ok(),
        callback_stream: Some("extension_responses".into()),
        webhook_url: Some("https://example.com/hook".into()),
        echo_id: Some("ext_req_1".into()),
        ..Request::new(ID, "user-1", "extension")
    }
}

#[test]
fn the_envelope_is_written_as_the_contract_says() {
    let request = Request {
        items: vec![item(r#"{ "phone": "09" }"#)],
        ..Request::new(ID, "user-1", "api")
    };
    assert_eq!(
        String::from_utf8(request.to_message()).unwrap(),
        concat!(
            r#"{"v":1,"request_id":"01942f3c-9a10-7abc-8def-0123456789ab","source":"api","user_id":"user-1","#,
            r#""action":"validate","data":{"items":[{ "phone": "09" }]},"priority":"normal","#,
            r#""callback_config":{"stream":null,"webhook_url":null},"timestamp":"2025-01-04T02:54:48.336Z","#,
            r#""external_ref":null,"batch_id":null,"traceparent":null}"#
        )
    );
}

#[test]
fn an_own_envelope_comes_back_as_it_was() {
    for request in [
        full(),
        Request {
            items: vec![item("{}")],
            ..Request::new(ID, "o", "api")
        },
    ] {
        let bytes = request.to_message();
        let decoded = decode(
            &[
                ("rb-id", b"1".as_slice()),
                ("data", &bytes),
                ("rb-attempt", b"2"),
            ],
            1000,
        )
        .unwrap();
        assert_eq!(decoded.shape, Shape::EnvelopeV1);
        assert_eq!(decoded.into_own().unwrap(), request);
    }
}

#[test]
fn a_foreign_envelope_gets_our_ids_and_keeps_its_own_as_reference() {
    let decoded = data(
        r#"{"request_id":"req_1","user_id":"admin","source":"shop","data":{"items":{"phone":"1"}},"timestamp":"2025-01-02T03:04:05",
            "external_ref":"mine","priority":"urgent","callback_config":{"stream":"elsewhere"},"future":[1]}"#,
    )
    .unwrap();
    assert_eq!(decoded.shape, Shape::EnvelopeV1);
    assert_eq!(decoded.request_id_given.as_deref(), Some("req_1"));
    assert_eq!(decoded.owner_given.as_deref(), Some("admin"));
    assert_eq!(decoded.clone().into_own(), Err(Malformed::NotOurs));
    let request = decoded.into_foreign(ID, "foreign");
    assert_eq!(
        (request.request_id, request.owner.as_str()),
        (ID, "foreign")
    );
    assert_eq!(request.external_ref.as_deref(), Some("req_1"));
    assert_eq!(request.answer_id(), "req_1");
    assert_eq!(
        request.client_timestamp.unwrap().to_string(),
        "2025-01-02T03:04:05Z"
    );
    assert_eq!(request.callback_stream.as_deref(), Some("elsewhere"));
    assert_eq!(request.lane, Lane::Normal);
    assert_eq!(texts(&request.items), [r#"{"phone":"1"}"#]);
}

#[test]
fn one_item_with_flat_fields_beside_it_is_read() {
    let json =
        r#"{"phone":"0912345678","bank_account":"1","source":"inner","v":3,"data":{"note":1}}"#;
    let decoded = read(&[
        ("data", json),
        ("source", "checkscam_crawler"),
        ("timestamp", "1735787045000"),
        ("producer", "script"),
        ("batch_id", "checkscam_1"),
        ("sequence", "7"),
        ("scrape_url", "https://example.com"),
        ("key", "k"),
    ]);
    // A record with `v` and `data` of its own is an envelope without items: the version word is reserved.
    assert_eq!(decoded.unwrap_err(), Malformed::UnknownVersion);
    let json = r#"{"phone":"0912345678","bank_account":"1","source":"inner","v":3}"#;
    let decoded = read(&[
        ("data", json),
        ("timestamp", "1735787045000"),
        ("batch_id", "checkscam_1"),
        ("key", "k"),
    ])
    .unwrap();
    assert_eq!(decoded.shape, Shape::LegacyItem);
    assert_eq!(texts(&decoded.items), [json]);
    assert_eq!(decoded.source.as_deref(), Some("inner"));
    assert_eq!(decoded.batch_id.as_deref(), Some("checkscam_1"));
    assert_eq!(decoded.key.as_deref(), Some("k"));
    assert_eq!(
        decoded.timestamp.unwrap().to_string(),
        "2025-01-02T03:04:05Z"
    );
    let flat_source = read(&[("data", json), ("source", "crawler")]).unwrap();
    assert_eq!(flat_source.into_foreign(ID, "o").source, "crawler");
    assert_eq!(data("{}").unwrap().into_foreign(ID, "o").source, "unknown");
}

#[test]
fn flat_fields_are_an_item() {
    let decoded = read(&[
        ("name", "Nguyễn \"Văn\" A"),
        ("phone", "0912345678"),
        ("source", "guide"),
        ("batch_id", "b"),
        ("scraped_at", "2025-01-02T03:04:05Z"),
        ("metadata", "{\"a\":1}"),
        ("rb-attempt", "1"),
        ("key", "k"),
        ("traceparent", "00-0"),
    ])
    .unwrap();
    assert_eq!(decoded.shape, Shape::LegacyFlat);
    assert_eq!(
        texts(&decoded.items),
        [
            r#"{"name":"Nguyễn \"Văn\" A","phone":"0912345678","source":"guide","batch_id":"b","scraped_at":"2025-01-02T03:04:05Z","metadata":"{\"a\":1}"}"#
        ]
    );
    assert_eq!(
        (decoded.source.as_deref(), decoded.batch_id.as_deref()),
        (Some("guide"), Some("b"))
    );
    assert_eq!(
        (decoded.key.as_deref(), decoded.traceparent.as_deref()),
        (Some("k"), Some("00-0"))
    );
    assert_eq!(
        decoded.timestamp.unwrap().to_string(),
        "2025-01-02T03:04:05Z"
    );
}

#[test]
fn the_extensions_message_is_read_in_both_forms() {
    let nested = data(
        r#"{"request_id":"ext_req_1_a","user_id":42,"session_id":"s","action":"rate_check","data":{"phone":"0912345678"},
            "source":"browser_extension","priority":"high","callback_stream":"extension_responses","metadata":{"ip_address":"x"}}"#,
    )
    .unwrap();
    let flat = read(&[
        ("request_id", "ext_req_1_a"),
        ("user_id", "42"),
        ("action", "rate_check"),
        ("data", r#"{"phone":"0912345678"}"#),
        ("source", "browser_extension"),
        ("priority", "high"),
        ("callback_stream", "extension_responses"),
    ])
    .unwrap();
    for decoded in [nested, flat] {
        assert_eq!(decoded.shape, Shape::LegacyExtension);
        assert_eq!(decoded.action, Action::Check);
        assert_eq!(decoded.lane, Lane::High);
        assert_eq!(decoded.request_id_given.as_deref(), Some("ext_req_1_a"));
        assert_eq!(decoded.owner_given.as_deref(), Some("42"));
        assert_eq!(
            decoded.callback_stream.as_deref(),
            Some("extension_responses")
        );
        assert_eq!(decoded.source.as_deref(), Some("browser_extension"));
        assert_eq!(texts(&decoded.items), [r#"{"phone":"0912345678"}"#]);
    }
}

#[test]
fn what_is_no_message_has_a_class() {
    let slug = |result: Result<Decoded, Malformed>| result.unwrap_err().slug();
    assert_eq!(slug(read(&[])), "entry.no_message");
    assert_eq!(
        slug(read(&[("foo", "bar"), ("rb-id", "1")])),
        "entry.no_message"
    );
    assert_eq!(slug(data("")), "json.malformed");
    assert_eq!(slug(data("not json")), "json.malformed");
    assert_eq!(slug(data("[]")), "message.not_an_object");
    assert_eq!(slug(data("5")), "message.not_an_object");
    assert_eq!(
        slug(decode(&[("data", b"\xff".as_slice())], 9)),
        "entry.not_utf8"
    );
    assert_eq!(
        slug(decode(&[("phone", b"\xff".as_slice())], 9)),
        "entry.not_utf8"
    );
    assert_eq!(slug(read(&[("phone", "a\0")])), "json.nul_character");
    assert_eq!(slug(data(r#"{"phone":"\u0000"}"#)), "json.nul_character");
    for version in ["2", "0", "\"1\"", "null", "[]", "-1", "1e9", "true"] {
        let json = format!(r#"{{"v":{version},"data":{{"items":[{{}}]}}}}"#);
        assert_eq!(slug(data(&json)), "message.unknown_version", "{version}");
    }
    assert!(data(r#"{"v":1.5,"data":{"items":[{}]}}"#).is_ok());
    for body in [
        r#"{"v":1}"#,
        r#"{"v":1,"data":5}"#,
        r#"{"v":1,"data":{}}"#,
        r#"{"data":{"items":[]}}"#,
    ] {
        assert_eq!(slug(data(body)), "message.no_items", "{body}");
    }
    assert_eq!(slug(data(r#"{"data":{"items":5}}"#)), "items.not_a_list");
    assert_eq!(
        slug(decode(&[("data", r#"{"data":{"items":[1,2]}}"#)], 1)),
        "items.too_many"
    );
    assert_eq!(
        slug(data(r#"{"data":{"items":[{}]},"action":"delete"}"#)),
        "message.unknown_word"
    );
    assert_eq!(
        slug(data(r#"{"data":{"items":[{}]},"profile":"loose"}"#)),
        "message.unknown_word"
    );
    assert_eq!(
        slug(data(r#"{"data":{"items":[{}]},"source":"\u0000"}"#)),
        "json.nul_character"
    );
}

fn answer(request: &Request) -> Response {
    let verdicts = Rules::new(Profile::Classic).judge_all(&request.items);
    let answered = Answered {
        at: "2025-01-04T04:42:17Z".parse().expect("it is a time"),
        took_ms: 3,
    };
    Response::new(request, Profile::Classic, verdicts, answered)
}

#[test]
fn the_answer_is_written_as_the_contract_says() {
    let request = Request {
        items: vec![item(
            r#"{"phone":"0123456789","bank_account":"12345678901","email":"a","name":"An Bình"}"#,
        )],
        ..Request::new(ID, "user-1", "api")
    };
    let expected = concat!(
        r#"{"v":1,"request_id":"01942f3c-9a10-7abc-8def-0123456789ab","id":"01942f3c-9a10-7abc-8def-0123456789ab","#,
        r#""owner":"user-1","external_ref":null,"profile":"classic","ruleset":"1.0.0","status":"error","results":["#,
        r#"{"item_id":"ITEM","item_no":0,"verdict":"ERROR","error_code":300,"#,
        r#""errors":[{"code":300,"field":"email","message":"Invalid email format: a"}],"confidence":0.75,"#,
        r#""normalized":{"phone":"+84123456789","bank_account":"12345678901","name":"An Bình"},"#,
        r#""details":{"warnings":[{"code":140,"slug":"phone.unassigned_range","severity":"warning","field":"phone","params":{}}]}}],"#,
        r#""processing_time_ms":3,"timestamp":"2025-01-04T04:42:17Z","batch_id":null}"#
    )
    .replace("ITEM", &item_id(ID, 0).to_string());
    let bytes = answer(&request).to_message();
    assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
    assert_eq!(Response::from_message(&bytes).unwrap(), answer(&request));
}

#[test]
fn a_foreign_producer_finds_its_own_id_in_the_answer() {
    let response = answer(&full());
    assert_eq!(
        (response.request_id.as_str(), response.id),
        ("ext_req_1", ID)
    );
    assert_eq!(response.batch_id.as_deref(), Some("batch"));
    assert_eq!(
        Response::from_message(&response.to_message()).unwrap(),
        response
    );
}

#[test]
fn the_status_follows_from_the_verdicts() {
    let good = r#"{"phone":"0912345678","bank_account":"0071000123456"}"#;
    let of = |items: &[&str]| {
        let items = items.iter().map(|json| item(json)).collect();
        answer(&Request {
            items,
            ..Request::new(ID, "o", "api")
        })
        .status
    };
    assert_eq!(of(&[good, good]), Status::Success);
    assert_eq!(of(&[good, "{}"]), Status::Partial);
    assert_eq!(of(&["{}", "5"]), Status::Error);
}

#[test]
fn other_answers_are_refused() {
    let slug = |text: &str| Response::from_message(text.as_bytes()).unwrap_err().slug();
    assert_eq!(slug(r#"{"v":2,"other":1}"#), "message.unknown_version");
    assert_eq!(slug(r#"{"v":1}"#), "json.malformed");
    assert_eq!(slug("[1]"), "message.not_an_object");
    assert_eq!(slug("x"), "json.malformed");
    let mut later: serde_json::Value =
        serde_json::from_slice(&answer(&full()).to_message()).unwrap();
    later["new_field"] = 5.into();
    assert!(Response::from_message(later.to_string().as_bytes()).is_ok());
    later["v"] = 2.into();
    assert_eq!(slug(&later.to_string()), "message.unknown_version");
}

#[test]
fn a_debug_print_shows_no_personal_data() {
    let mut request = full();
    request.items = vec![item(
        r#"{"phone":"0912345678","bank_account":"0071000123456","email":"geheim.at","name":"Geheimnis"}"#,
    )];
    let shown = format!(
        "{request:?} {:?} {:?}",
        answer(&request),
        Rules::default().judge_all(&request.items)
    );
    for secret in ["912345678", "0071000123456", "geheim", "Geheimnis"] {
        assert!(!shown.contains(secret), "{secret} is in {shown}");
    }
}
