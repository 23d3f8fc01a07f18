//! Nothing that arrives makes the crate panic, and the order of items is kept.

use proptest::prelude::*;
use ratebox_intake::{
    Answered, Item, Profile, Request, Response, Rules, decode, mask_json, mask_message,
    parse_batch, parse_bulk, parse_import, parse_validation,
};

/// Any JSON, a few levels deep.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(-1)].prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
        "[0-9+ .-]{0,16}".prop_map(Into::into),
    ];
    let key = prop_oneof![
        "phone|bank_account|email|name|bank|data|items|v|request_id|action|batches|datasets|defaults|source|priority|timestamp|id|external_ref",
        ".{0,4}",
    ];
    leaf.prop_recursive(4, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::vec((key.clone(), inner), 0..8)
                .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// Everything that reads foreign bytes.
fn read_all(bytes: &[u8]) {
    for profile in [Profile::Classic, Profile::Strict] {
        if let Ok(item) = Item::parse(bytes) {
            let verdict = Rules::new(profile).judge(&item);
            assert_eq!(verdict.error_code().is_none(), verdict.errors.is_empty());
        }
    }
    let _ = parse_validation(bytes, 10);
    let _ = parse_import(bytes, 10);
    let _ = parse_batch(bytes, 10);
    let _ = parse_bulk(bytes, 10, 10);
    let _ = Response::from_message(bytes);
    let _ = decode(&[("data", bytes), ("source", bytes)], 10);
    let _ = decode(&[("phone", bytes), ("timestamp", bytes)], 10);
    if let Ok(text) = std::str::from_utf8(bytes) {
        mask_message(text);
        mask_json(text);
    }
}

/// One record with any texts in the four fields.
fn record_of(texts: [String; 4]) -> String {
    let [phone, bank_account, email, name] = texts;
    crate::record(&phone, &bank_account, &email, &name)
}

fn without_nul(json: &serde_json::Value) -> serde_json::Value {
    serde_json::from_str(&json.to_string().replace("\\u0000", "0")).expect("it is still JSON")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    #[test]
    fn any_json_is_read_without_a_panic(json in any_json()) {
        read_all(json.to_string().as_bytes());
    }

    #[test]
    fn any_texts_in_the_fields_are_judged_without_a_panic(texts in [".{0,24}", ".{0,24}", ".{0,24}", ".{0,24}"]) {
        read_all(record_of(texts).as_bytes());
    }

    #[test]
    fn likely_texts_in_the_fields_are_judged_without_a_panic(
        texts in ["[0-9+ ().x;=tel:#-]{0,24}", "[0-9A-Z .-]{0,36}", "[a-z.@\"<>\u{e0}-\u{ff}-]{0,30}", "[A-Za-z\u{300}-\u{320}\u{200b}-\u{200f} 0-9]{0,24}"]
    ) {
        read_all(record_of(texts).as_bytes());
    }

    #[test]
    fn an_item_that_is_taken_is_kept_as_it_came(json in any_json()) {
        let text = json.to_string();
        if let Ok(item) = Item::parse(text.as_bytes()) {
            prop_assert_eq!(item.json(), text);
        }
    }

    #[test]
    fn what_serde_json_writes_is_taken_unless_it_holds_nul(json in any_json()) {
        let text = json.to_string();
        prop_assert_eq!(Item::parse(text.as_bytes()).is_ok(), !text.contains("\\u0000"));
    }

    #[test]
    fn an_answer_is_written_as_serde_json_writes_it(
        texts in ["[0-9+ .]{0,14}", "[0-9A-Z .-]{0,24}", "[a-z.@\"\\\\]{0,24}", ".{0,24}"],
        reference in prop::option::of(".{0,8}"),
    ) {
        let [phone, bank_account, email, name] = &texts;
        let record = serde_json::json!({"phone": phone, "bank_account": bank_account, "email": email, "name": name});
        prop_assume!(!record.to_string().contains("\\u0000"));
        let items = ["{}", "[]", &record.to_string()].map(|json| Item::parse(json.as_bytes()).unwrap());
        let mut request = Request::new(uuid::Uuid::max(), "an \"owner\"", "api");
        request.external_ref = reference.clone();
        request.batch_id = reference;
        request.items = items.to_vec();
        for profile in [Profile::Classic, Profile::Strict] {
            let verdicts = Rules::new(profile).judge_all(&request.items);
            let answered = Answered { at: "2025-01-04T04:42:17.25Z".parse().unwrap(), took_ms: 3 };
            let response = Response::new(&request, profile, verdicts, answered);
            let ours = String::from_utf8(response.to_message()).unwrap();
            prop_assert_eq!(ours, serde_json::to_string(&response).unwrap());
        }
    }

    #[test]
    fn masked_json_is_json(json in any_json()) {
        let masked: Result<serde_json::Value, _> = serde_json::from_str(&mask_json(&json.to_string()));
        prop_assert!(masked.is_ok());
    }

    #[test]
    fn items_keep_their_order(items in prop::collection::vec(any_json(), 1..20)) {
        let items: Vec<serde_json::Value> = items.iter().map(without_nul).collect();
        let body = serde_json::json!({"items": items}).to_string();
        let submission = parse_validation(body.as_bytes(), 20).unwrap();
        let ours: Vec<_> = submission.items.iter().map(|item| item.json().to_owned()).collect();
        let theirs: Vec<_> = items.iter().map(ToString::to_string).collect();
        prop_assert_eq!(ours, theirs);
        let rules = Rules::default();
        let verdicts = rules.judge_all(&submission.items);
        for (item, verdict) in submission.items.iter().zip(verdicts) {
            prop_assert_eq!(rules.judge(item).errors, verdict.errors);
        }
    }
}
