//! Reading one item: what is kept, what is found, and what is refused.

use ratebox_intake::{DEPTH_MAX, Field, Item, JsonKind};

use crate::item;

fn refused(json: &str) -> &'static str {
    Item::parse(json.as_bytes()).expect_err(json).code()
}

#[test]
fn the_text_is_kept_as_it_came() {
    let json = "{ \"z\" : 1.50, \"a\":[ ],\n\"phone\":\"\\u0030\\u0039\", \"email\":\"\",\"name\":\"\", \"bank\":\"VCB\" }";
    let item = item(json);
    assert_eq!(item.json(), json);
    assert_eq!(item.phone(), Field::Text("09"));
    assert_eq!(item.bank_account(), Field::Absent);
    assert_eq!(item.email(), Field::Absent);
    assert_eq!(item.name(), Field::Text(""));
    assert_eq!(item.bank(), Some("VCB"));
    assert_eq!(super::item("  {} \n").json(), "{}");
}

#[test]
fn only_fields_of_the_record_itself_are_found() {
    let item =
        item(r#"{"metadata":{"phone":"1"},"list":[{"phone":"2"}],"Phone":"3","ph\u006fne":"4"}"#);
    assert_eq!(item.phone(), Field::Text("4"));
    assert_eq!(
        super::item(r#"{"phone":{"phone":"1"}}"#).phone(),
        Field::WrongType(JsonKind::Object)
    );
}

#[test]
fn what_no_store_can_keep_is_refused() {
    assert_eq!(refused(r#"{"a":"\u0000"}"#), "json.nul_character");
    assert_eq!(refused(r#"{"\u0000":1}"#), "json.nul_character");
    assert_eq!(refused(r#"{"a":[{"b\u0000":1}]}"#), "json.nul_character");
    assert_eq!(refused(r#""\u0000""#), "json.nul_character");
    assert_eq!(refused(r#"{"a":"\ud800"}"#), "json.lone_surrogate");
    assert_eq!(refused(r#"{"\ud800x":1}"#), "json.lone_surrogate");
    assert_eq!(refused(r#"{"a":"\ud800\u0041"}"#), "json.lone_surrogate");
    assert_eq!(refused(r#"{"a":"\udc00"}"#), "json.lone_surrogate");
    assert_eq!(refused(r#"{"a":1e999999}"#), "json.number_out_of_range");
    assert_eq!(refused(r#"{"a":-1e400}"#), "json.number_out_of_range");
    assert_eq!(refused(r#"{"a":[1e-999999]}"#), "json.number_out_of_range");
    assert_eq!(
        refused(&format!(r#"{{"a\\\"":"1e999","b":0.{}}}"#, "0".repeat(500))),
        "json.number_out_of_range"
    );
    assert_eq!(refused(&"9".repeat(500)), "json.number_out_of_range");
}

#[test]
fn fine_numbers_and_strings_are_taken() {
    for json in [
        r#"{"a":1.5e300,"b":-0,"c":18446744073709551616,"d":0.1,"e":"1e999999"}"#,
        r#"{"a":"\ud83d\ude00","b":"\u0001","c":"\\u0000"}"#,
    ] {
        assert_eq!(item(json).json(), json);
    }
}

#[test]
fn nesting_has_a_limit() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(Item::parse(nested(DEPTH_MAX).as_bytes()).is_ok());
    assert_eq!(refused(&nested(DEPTH_MAX + 1)), "json.depth");
    assert_eq!(refused(&nested(100_000)), "json.depth");
    assert_eq!(
        refused(&format!(r#"{{"a":{}}}"#, nested(DEPTH_MAX))),
        "json.depth"
    );
    assert!(Item::parse(format!(r#"{{"a":{}}}"#, nested(DEPTH_MAX - 1)).as_bytes()).is_ok());
}

#[test]
fn broken_texts_are_refused_with_a_place() {
    for json in [
        "",
        "{",
        r#"{"a":}"#,
        "{} {}",
        "nul",
        "[1,]",
        "\"a",
        "{\"a\":\"\n\"}",
        "+1",
        "\u{feff}{}",
    ] {
        assert_eq!(refused(json), "json.malformed", "{json}");
    }
    assert_eq!(
        Item::parse(b"{\"a\":\"\xff\"}").unwrap_err().code(),
        "json.not_utf8"
    );
    let error = Item::parse(b"{\"a\":1,\n  \"phone\": oops}").unwrap_err();
    assert!((18..=20).contains(&error.place().unwrap().byte), "{error}");
    assert!(!error.to_string().contains("oops") && !error.is_retryable());
}

#[test]
fn a_debug_print_shows_no_data() {
    assert_eq!(
        format!("{:?}", item(r#"{"phone":"0912345678"}"#)),
        "Item(22 bytes)"
    );
}
