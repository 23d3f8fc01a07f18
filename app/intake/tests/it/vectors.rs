//! The acceptance vectors of the predecessor's own producer and scripts, and of the reference study.

use ratebox_intake::{Decision, Profile};

use crate::{NONE, errors, item, judge, record, warnings, with};

#[test]
fn the_producers_own_sample_is_done() {
    let sample = record(
        "0123456789",
        "12345678901",
        "test@example.com",
        "Nguyễn Văn A",
    );
    let verdict = judge(Profile::Classic, &sample);
    assert_eq!(verdict.decision(), Decision::Done);
    assert_eq!(verdict.error_code(), None);
    assert_eq!(warnings(&verdict), [140]);
    assert_eq!(verdict.confidence.value(), 0.75);
    assert_eq!(verdict.normalized.phone.as_deref(), Some("+84123456789"));
    assert_eq!(errors(&judge(Profile::Standard, &sample)), [140]);
    assert_eq!(errors(&judge(Profile::Strict, &sample)), [140]);
}

#[test]
fn all_violated_rules_are_told_in_order_with_their_messages() {
    let verdict = judge(
        Profile::Classic,
        &record("123", "456", "invalid-email", "Given"),
    );
    let told: Vec<_> = verdict
        .errors
        .iter()
        .map(|finding| {
            (
                finding.code.number,
                finding.code.field,
                finding.message.as_ref(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (101, "phone", "Phone number too short: 3 chars, minimum 10"),
            (
                201,
                "bank_account",
                "Bank account too short: 3 chars, minimum 8"
            ),
            (300, "email", "Invalid email format: invalid-email"),
        ]
    );
    assert_eq!(verdict.error_code(), Some(101));
}

#[test]
fn empty_fields_are_required_but_for_the_email() {
    let verdict = judge(Profile::Classic, &record("", "", "", "Given"));
    let told: Vec<_> = verdict
        .errors
        .iter()
        .map(|finding| finding.message.as_ref())
        .collect();
    assert_eq!(
        told,
        ["Phone number is required", "Bank account is required"]
    );
    assert_eq!(warnings(&verdict), [610]);
    assert_eq!(errors(&judge(Profile::Classic, "{}")), [100, 200]);
    assert_eq!(
        errors(&judge(
            Profile::Classic,
            r#"{"phone":null,"bank_account":null,"name":null}"#
        )),
        [100, 200]
    );
}

#[test]
fn a_short_account_is_one_error() {
    assert_eq!(
        errors(&judge(
            Profile::Classic,
            &record("0909123456", "123", "a@example.com", "Given")
        )),
        [201]
    );
}

#[test]
fn an_empty_name_is_present_and_too_short() {
    let verdict = judge(
        Profile::Classic,
        &record("0888777666", "33333333333", "a@example.com", ""),
    );
    assert_eq!(errors(&verdict), [400]);
    assert_eq!(
        verdict.errors[0].message,
        "Name must be at least 2 characters"
    );
}

#[test]
fn a_number_where_a_string_belongs_is_an_error_and_no_crash() {
    for profile in [Profile::Classic, Profile::Standard, Profile::Strict] {
        let verdict = judge(
            profile,
            r#"{"phone":987654321,"bank_account":{"a":1},"email":["a@b.c"],"name":false}"#,
        );
        assert_eq!(errors(&verdict), [110, 210, 310, 410]);
    }
}

#[test]
fn lengths_count_characters_of_the_raw_text() {
    assert_eq!(
        errors(&judge(Profile::Classic, &with("phone", "          "))),
        NONE
    );
    assert_eq!(
        errors(&judge(
            Profile::Classic,
            &with("phone", "９９９９９９９９９")
        )),
        [101]
    );
    assert_eq!(errors(&judge(Profile::Classic, &with("name", "Ễ"))), [400]);
    assert_eq!(
        errors(&judge(Profile::Classic, &with("name", "E\u{302}"))),
        NONE
    );
    assert_eq!(errors(&judge(Profile::Classic, &with("name", " x"))), NONE);
}

#[test]
fn what_is_no_object_is_an_error_of_its_own() {
    for (json, kind) in [
        ("5", "number"),
        ("null", "null"),
        ("[]", "array"),
        (r#""a""#, "string"),
        ("true", "boolean"),
    ] {
        let verdict = judge(Profile::Classic, json);
        assert_eq!(errors(&verdict), [500]);
        assert_eq!(
            format!("{:?}", verdict.errors[0].params.get("got")),
            format!("Some(Text({kind:?}))")
        );
        assert_eq!(item(json).json(), json);
    }
}

#[test]
fn the_last_of_repeated_keys_counts() {
    let verdict = judge(
        Profile::Classic,
        r#"{"phone":"0912345678","bank_account":"0071000123456","phone":"1"}"#,
    );
    assert_eq!(errors(&verdict), [101]);
}

#[test]
fn a_missing_email_is_noticed_where_it_is_required() {
    let rules = ratebox_intake::Rules::new(Profile::Classic).with_email_required(true);
    let without = item(&record("0912345678", "0071000123456", "", "Nguyễn Văn An"));
    assert_eq!(warnings(&rules.judge(&without)), [311]);
    assert_eq!(
        errors(&rules.with_profile(Profile::Standard).judge(&without)),
        [311]
    );
    assert_eq!(
        warnings(&ratebox_intake::Rules::default().judge(&without)),
        NONE
    );
}
