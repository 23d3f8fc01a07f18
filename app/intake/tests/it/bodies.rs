//! The bodies of the HTTP interface.

use ratebox_intake::{
    Action, Field, Item, Lane, Profile, ShapeError, Submission, Terms, parse_batch, parse_bulk,
    parse_import, parse_taken_bulk, parse_validation,
};
use uuid::Uuid;

fn validation(body: &str) -> Result<Submission, ShapeError> {
    parse_validation(body.as_bytes(), 3)
}

fn texts(submission: &Submission) -> Vec<&str> {
    submission.items.iter().map(|item| item.json()).collect()
}

#[test]
fn items_come_as_a_list_as_one_object_or_bare() {
    let list = validation(r#"{"items":[{"phone":"1"}, 5 ,null]}"#).unwrap();
    assert_eq!(texts(&list), [r#"{"phone":"1"}"#, "5", "null"]);
    let one = validation(r#"{"items":{"phone":"1"}}"#).unwrap();
    assert_eq!(texts(&one), [r#"{"phone":"1"}"#]);
    let bare = validation(r#" {"phone":"1","priority":5,"batches":[],"source":"x"} "#).unwrap();
    assert_eq!(
        texts(&bare),
        [r#"{"phone":"1","priority":5,"batches":[],"source":"x"}"#]
    );
    assert_eq!(bare.terms, Terms::default());
}

#[test]
fn terms_are_read_in_both_spellings() {
    let body = r#"{"items":[{}],"priority":"bulk","profile":"strict","action":"check","externalRef":"e","key":"k",
        "source":"extension","webhookUrl":"https://example.com/h","batchId":"b","timestamp":"2025-01-02T03:04:05+07:00"}"#;
    let terms = validation(body).unwrap().terms;
    assert_eq!(terms.lane, Some(Lane::Low));
    assert_eq!(terms.profile, Some(Profile::Strict));
    assert_eq!(terms.action, Some(Action::Check));
    assert_eq!(terms.external_ref.as_deref(), Some("e"));
    assert_eq!(terms.key.as_deref(), Some("k"));
    assert_eq!(terms.source.as_deref(), Some("extension"));
    assert_eq!(terms.webhook_url.as_deref(), Some("https://example.com/h"));
    assert_eq!(terms.batch_id.as_deref(), Some("b"));
    assert_eq!(
        terms.client_timestamp.unwrap().to_string(),
        "2025-01-01T20:04:05Z"
    );
    let snake = validation(
        r#"{"items":[{}],"external_ref":"e","webhook_url":"w","batch_id":null,"timestamp":"soon"}"#,
    );
    let terms = snake.unwrap().terms;
    assert_eq!(
        (terms.external_ref.as_deref(), terms.webhook_url.as_deref()),
        (Some("e"), Some("w"))
    );
    assert_eq!((terms.batch_id, terms.client_timestamp), (None, None));
}

#[test]
fn what_is_not_the_clients_to_set_is_ignored() {
    let body = r#"{"items":[{}],"id":1,"owner":"root","status":"success","verdict":"DONE","created_at":[],"request_id":{}}"#;
    assert_eq!(validation(body).unwrap().terms, Terms::default());
}

#[test]
fn nothing_to_judge_is_said_in_the_known_words() {
    let said = |result: Result<(), ShapeError>| {
        let error = result.unwrap_err();
        assert_eq!(error.code(), "items.empty");
        error.to_string()
    };
    for body in ["{}", r#"{"items":[]}"#, r#"{"items":null}"#] {
        assert_eq!(
            said(parse_validation(body.as_bytes(), 9).map(drop)),
            "No items provided for validation"
        );
        assert_eq!(
            said(parse_import(body.as_bytes(), 9).map(drop)),
            "No items provided for import"
        );
    }
    for body in ["{}", r#"{"batches":[]}"#, r#"{"items":[{}]}"#] {
        assert_eq!(
            said(parse_batch(body.as_bytes(), 9).map(drop)),
            "No batches provided for validation"
        );
    }
    for body in ["{}", r#"{"datasets":[]}"#] {
        assert_eq!(
            said(parse_bulk(body.as_bytes(), 9, 9).map(drop)),
            "No datasets provided for bulk import"
        );
    }
    assert_eq!(
        said(parse_batch(br#"{"batches":[{"id":"a"}]}"#, 9).map(drop)),
        "No items provided for validation (entry 0 of batches)"
    );
    assert_eq!(
        said(parse_bulk(br#"{"datasets":[{"items":[{}]},{"items":[]}]}"#, 9, 9).map(drop)),
        "No items provided for import (entry 1 of datasets)"
    );
}

#[test]
fn a_field_of_ours_is_given_once() {
    let single = [
        (r#"{"items":[1],"items":[2]}"#, "items"),
        (r#"{"items":[1],"\u0069tems":[2]}"#, "items"),
        (
            r#"{"items":[1],"priority":"low","x":1,"priority":"low"}"#,
            "priority",
        ),
        (
            r#"{"items":[1],"webhookUrl":null,"webhookUrl":null}"#,
            "webhookUrl",
        ),
    ];
    for (body, field) in single {
        let refused = Some(ShapeError::FieldRepeated(field));
        assert_eq!(validation(body).err(), refused, "{body}");
        assert_eq!(parse_import(body.as_bytes(), 9).err(), refused, "{body}");
    }
    for body in [
        r#"{"batches":[{"items":[1]}],"batches":[{"items":[1]}]}"#,
        r#"{"batches":[{"id":"a","items":[1],"id":"b"}]}"#,
        r#"{"batches":[{"items":[1]}],"defaults":{"source":"a","source":"b"}}"#,
    ] {
        let error = parse_batch(body.as_bytes(), 9).unwrap_err();
        assert_eq!(error.code(), "field.repeated", "{body}");
    }
    // What is foreign may be anything: in an item, and beside our fields.
    for body in [
        r#"{"items":[{"phone":"1","items":1,"items":2,"x":{"phone":"2","phone":"3"}}]}"#,
        r#"{"items":[1],"x":1,"x":2}"#,
        r#"{"phone":"1","priority":1,"priority":2}"#,
    ] {
        assert!(validation(body).is_ok(), "{body}");
    }
}

#[test]
fn a_field_that_the_rules_look_at_is_given_once_in_a_record() {
    for (record, field) in [
        (r#"{"phone":"1","phone":"1"}"#, "phone"),
        (r#"{"phone":null,"x":[{}],"ph\u006fne":"2"}"#, "phone"),
        (r#"{"bank_account":1,"bank_account":[]}"#, "bank_account"),
        (r#"{"email":"a","name":"b","email":"c"}"#, "email"),
        (r#"{"name":"","name":""}"#, "name"),
        (r#"{"bank_code":"a","bank_code":"b"}"#, "bank_code"),
    ] {
        let list = format!(r#"{{"items":[{{}},{record}]}}"#);
        for (body, item) in [(list.as_str(), Some(1)), (record, None)] {
            let error = validation(body).unwrap_err();
            assert_eq!(error.code(), "field.repeated", "{body}");
            assert!(error.to_string().contains(field), "{error}");
            let place = error.place().unwrap();
            assert_eq!(place.item, item, "{body}");
            // The second one is the last of its name.
            let tail = body.get(place.byte..).unwrap();
            assert!(!tail.contains(field), "{error}: {tail}");
        }
        let bulk = format!(r#"{{"datasets":[{{"items":[{record}]}}]}}"#);
        let error = parse_bulk(bulk.as_bytes(), 9, 9).unwrap_err();
        assert_eq!(error.code(), "field.repeated", "{bulk}");
        // Outside the door the last one counts.
        assert!(Item::parse(record.as_bytes()).is_ok(), "{record}");
    }
    // These are three names of one hint.
    let bank = r#"{"items":[{"bank":"a","bank_name":"b","bank_code":"c"}]}"#;
    assert_eq!(validation(bank).unwrap().items[0].bank(), Some("c"));
}

/// Earlier releases took what is refused now: it is cut into what was promised then.
#[test]
fn a_bulk_that_was_taken_before_is_read_as_it_was_then() {
    let body =
        br#"{"datasets":1,"datasets":[{"id":"a","items":[1],"items":[{"phone":"1","phone":"2"}],
        "id":"b"}],"defaults":{"source":"x","source":"y"}}"#;
    assert_eq!(parse_bulk(body, 9, 9).unwrap_err().code(), "field.repeated");
    let taken = parse_taken_bulk(body).unwrap();
    assert_eq!(texts(&taken[0]), [r#"{"phone":"1","phone":"2"}"#]);
    assert_eq!(taken[0].items[0].phone(), Field::Text("2"));
    let terms = &taken[0].terms;
    assert_eq!(
        (terms.batch_id.as_deref(), terms.source.as_deref()),
        (Some("b"), Some("y"))
    );
    // Both read what was never refused in the same way.
    let fine = br#"{"datasets":[{"id":"a","items":[{"phone":"1"},7]},{"items":{}}]}"#;
    assert_eq!(
        parse_taken_bulk(fine).unwrap(),
        parse_bulk(fine, 9, 9).unwrap()
    );
    assert_eq!(parse_taken_bulk(b"{").unwrap_err().code(), "json.malformed");
}

#[test]
fn a_batch_is_several_submissions_with_common_terms() {
    let body = br#"{"batches":[{"id":"a","items":[{"phone":"1"}]},{"id":7,"items":{"phone":"2"},"priority":"high"}],
        "defaults":{"priority":"low","profile":"standard","externalRef":"all"}}"#;
    let parts = parse_batch(body, 10).unwrap();
    assert_eq!(parts.len(), 2);
    assert_eq!(parts[0].terms.batch_id.as_deref(), Some("a"));
    assert_eq!(parts[1].terms.batch_id.as_deref(), Some("7"));
    assert_eq!(
        (parts[0].terms.lane, parts[1].terms.lane),
        (Some(Lane::Low), Some(Lane::High))
    );
    assert_eq!(parts[1].terms.profile, Some(Profile::Standard));
    assert_eq!(parts[1].terms.external_ref.as_deref(), Some("all"));
    let bulk = br#"{"datasets":[{"datasetId":"d","source":"shop","items":[{}]}]}"#;
    let sets = parse_bulk(bulk, 10, 10).unwrap();
    assert_eq!(sets[0].terms.batch_id.as_deref(), Some("d"));
    assert_eq!(sets[0].terms.source.as_deref(), Some("shop"));
}

#[test]
fn an_id_in_digits_is_no_longer_than_another() {
    let code = |id: &str| {
        let body = format!(r#"{{"batches":[{{"id":{id},"items":[{{}}]}}]}}"#);
        parse_batch(body.as_bytes(), 9)
            .map(|parts| parts[0].terms.batch_id.clone().unwrap_or_default().len())
            .map_err(|error| error.code())
    };
    assert_eq!(code(&"1".repeat(255)), Ok(255));
    assert_eq!(code(&"1".repeat(256)), Err("field.too_long"));
    assert_eq!(code("1.5"), Err("field.wrong_type"));
}

#[test]
fn a_time_that_is_no_time_is_passed_over() {
    for text in [
        i64::MIN.to_string(),
        i64::MAX.to_string(),
        "-1e999".into(),
        "\"-9223372036854775808\"".into(),
    ] {
        let body = format!(r#"{{"items":[{{}}],"timestamp":{text}}}"#);
        assert_eq!(validation(&body).unwrap().terms.client_timestamp, None);
    }
}

#[test]
fn wrong_shapes_are_refused_with_a_code() {
    let code = |body: &str| validation(body).unwrap_err().code();
    assert_eq!(code("[]"), "body.not_an_object");
    assert_eq!(code("5"), "body.not_an_object");
    assert_eq!(code("{"), "json.malformed");
    assert_eq!(code(r#"{"items":"x"}"#), "items.not_a_list");
    assert_eq!(code(r#"{"items":[1,2,3,4]}"#), "items.too_many");
    assert_eq!(code(r#"{"items":[1],"priority":5}"#), "field.wrong_type");
    assert_eq!(
        code(r#"{"items":[1],"priority":"urgent"}"#),
        "field.unknown_word"
    );
    assert_eq!(
        code(r#"{"items":[1],"profile":"loose"}"#),
        "field.unknown_word"
    );
    assert_eq!(
        code(r#"{"items":[1],"source":"a\u0000"}"#),
        "json.nul_character"
    );
    assert_eq!(
        code(&format!(r#"{{"items":[1],"key":"{}"}}"#, "k".repeat(256))),
        "field.too_long"
    );
    assert_eq!(
        parse_batch(br#"{"batches":[5]}"#, 9).unwrap_err().code(),
        "part.not_an_object"
    );
    assert_eq!(
        parse_batch(br#"{"batches":{}}"#, 9).unwrap_err().code(),
        "items.not_a_list"
    );
    assert_eq!(
        parse_batch(br#"{"batches":[{"items":[1]}],"defaults":5}"#, 9)
            .unwrap_err()
            .code(),
        "field.wrong_type"
    );
    assert_eq!(
        parse_batch(br#"{"batches":[1,2,3]}"#, 2)
            .unwrap_err()
            .code(),
        "items.too_many"
    );
    assert_eq!(
        parse_validation(b"{\"items\":[\"\xff\"]}", 9)
            .unwrap_err()
            .code(),
        "json.not_utf8"
    );
}

#[test]
fn an_error_inside_an_item_says_which_and_where() {
    let body = r#"{"items":[{"a":1},{"b":"\u0000"}]}"#;
    let place = validation(body).unwrap_err().place().unwrap();
    assert_eq!(place.item, Some(1));
    let second = body.find(r#"{"b""#).unwrap();
    assert!(place.byte >= second && place.byte < body.len(), "{place}");
}

#[test]
fn an_error_of_one_batch_or_dataset_says_which() {
    let good = r#"{"items":[{}]}"#;
    for (bad, code, item) in [
        (
            r#"{"items":[1,{"n":1e999}]}"#,
            "json.number_out_of_range",
            Some(1),
        ),
        (r#"{"items":[1],"key":5}"#, "field.wrong_type", None),
        (
            r#"{"items":[1],"key":"a","key":"b"}"#,
            "field.repeated",
            None,
        ),
        (r#"{"items":[1,2,3,4]}"#, "items.too_many", None),
        (r#"{"items":[]}"#, "items.empty", None),
        ("5", "part.not_an_object", None),
    ] {
        let body = |list: &str| format!(r#"{{"{list}":[{good},{good},{bad}]}}"#);
        let batch = parse_batch(body("batches").as_bytes(), 3).unwrap_err();
        let bulk = parse_bulk(body("datasets").as_bytes(), 3, 3).unwrap_err();
        for (error, list) in [(batch, "batches"), (bulk, "datasets")] {
            assert_eq!(
                (error.code(), error.entry()),
                (code, Some(format!("/{list}/2")))
            );
            let told = error.to_string();
            assert!(told.contains(&format!("entry 2 of {list}")), "{told}");
            assert_eq!(error.place().and_then(|place| place.item), item, "{told}");
        }
    }
    // About all of them, or none.
    let all = br#"{"batches":[{"items":[1]}],"defaults":{"key":5}}"#;
    assert_eq!(parse_batch(all, 3).unwrap_err().entry(), None);
    let sum = br#"{"datasets":[{"items":[1,2]},{"items":[3,4]}]}"#;
    assert_eq!(parse_bulk(sum, 3, 3).unwrap_err().entry(), None);
    assert_eq!(validation(r#"{"items":7}"#).unwrap_err().entry(), None);
}

#[test]
fn a_submission_becomes_a_request_with_the_routes_defaults() {
    let id = Uuid::from_u128(0x0194_2f3c_9a10_7abc_8def_0123_4567_89ab);
    let route = Terms {
        source: Some("importer".into()),
        action: Some(Action::Import),
        lane: Some(Lane::Low),
        ..Terms::default()
    };
    let request = validation(r#"{"items":[{}],"priority":"high"}"#)
        .unwrap()
        .into_request(id, "user-1", &route);
    assert_eq!((request.lane, request.action), (Lane::High, Action::Import));
    assert_eq!(
        (request.source.as_str(), request.owner.as_str()),
        ("importer", "user-1")
    );
    assert_eq!(request.accepted_at().as_millisecond(), 0x0194_2f3c_9a10);
}
