//! E-mail addresses: the one rule under classic, RFC 5321 and the domain under standard.

use ratebox_intake::{Profile, Rules};

use crate::{NONE, errors, item, judge, warnings, with};

/// Normal form, errors and warnings under standard.
fn check(email: &str, normal: Option<&str>, error_codes: &[u16], warning_codes: &[u16]) {
    let verdict = judge(Profile::Standard, &with("email", email));
    assert_eq!(verdict.normalized.email.as_deref(), normal, "{email}");
    assert_eq!(errors(&verdict), error_codes, "{email}");
    assert_eq!(warnings(&verdict), warning_codes, "{email}");
}

#[test]
fn the_parts_of_an_address_are_checked() {
    check(
        "an.nguyen+shop@example.com",
        Some("an.nguyen+shop@example.com"),
        &[],
        &[],
    );
    check(
        "An.Nguyen@Example.COM",
        Some("an.nguyen@example.com"),
        &[],
        &[390],
    );
    check(" an@example.com ", Some("an@example.com"), &[], &[390]);
    check("an@công-ty.vn", Some("an@xn--cng-ty-ixa.vn"), &[], &[390]);
    check("a@b", None, &[300], &[]);
    check("a.b@c", None, &[300], &[]);
    check("@example.com", None, &[320], &[]);
    check(".an@example.com", None, &[320], &[]);
    check("an..b@example.com", None, &[320], &[]);
    check("\"an b\"@example.com", None, &[320], &[]);
    check("ân@example.com", None, &[320], &[]);
    check("a n@example.com", None, &[320], &[]);
    check("An <an@example.com>", None, &[320, 321], &[]);
    check(
        &format!("{}@example.com", "a".repeat(65)),
        None,
        &[320],
        &[],
    );
    check(&format!("a@{}.com", "b".repeat(64)), None, &[321], &[]);
    check(
        &format!("a@{}com", "bcdefghi.".repeat(30)),
        None,
        &[322],
        &[],
    );
    check("an@example..com", None, &[321], &[]);
    check("an@-example.com", None, &[321], &[]);
    check("an@[192.0.2.1]", None, &[321], &[]);
    check("an@exa_mple.com", None, &[321], &[]);
}

#[test]
fn the_domain_must_be_able_to_receive_mail() {
    check(
        "an@example.invalidtld",
        Some("an@example.invalidtld"),
        &[340],
        &[],
    );
    check("an@com.vn", Some("an@com.vn"), &[340], &[]);
    check("an@router.local", Some("an@router.local"), &[341], &[]);
    check(
        "an@khong-co.example",
        Some("an@khong-co.example"),
        &[341],
        &[],
    );
    check("an@mailinator.com", Some("an@mailinator.com"), &[], &[360]);
    check(
        "an@sub.mailinator.com",
        Some("an@sub.mailinator.com"),
        &[],
        &[360],
    );
    check("info@example.com", Some("info@example.com"), &[], &[361]);
    check("an@раураӏ.com", Some("an@xn--80aa0cbo65f.com"), &[], &[390]);
    check(
        "an@раypal.com",
        Some("an@xn--ypal-43d9g.com"),
        &[],
        &[342, 390],
    );
}

#[test]
fn under_classic_only_the_form_decides() {
    for email in [
        "@.",
        "a@b.c",
        "a b@c.d",
        "a@@b.c",
        "an@mailinator.com",
        "an@x..",
        "\u{200b}@x.y",
    ] {
        assert_eq!(
            errors(&judge(Profile::Classic, &with("email", email))),
            NONE,
            "{email}"
        );
    }
    for email in ["a", "a@b", "a.b@c", "a@b.c@d"] {
        assert_eq!(
            errors(&judge(Profile::Classic, &with("email", email))),
            [300],
            "{email}"
        );
    }
}

#[test]
fn strict_refuses_throw_away_addresses_and_mixed_scripts() {
    assert_eq!(
        errors(&judge(Profile::Strict, &with("email", "an@yopmail.com"))),
        [360]
    );
    assert_eq!(
        errors(&judge(Profile::Strict, &with("email", "an@раypal.com"))),
        [342]
    );
}

#[test]
fn letters_beyond_ascii_are_taken_where_that_is_set() {
    let rules = Rules::new(Profile::Standard).with_unicode_mailbox(true);
    let verdict = rules.judge(&item(&with("email", "Ân@example.com")));
    assert_eq!(errors(&verdict), NONE);
    assert_eq!(verdict.normalized.email.as_deref(), Some("ân@example.com"));
}

#[test]
fn the_key_of_a_lookup_is_the_normal_form_of_a_verdict() {
    assert_eq!(
        Rules::default().email_key(" An@Example.COM").as_deref(),
        Some("an@example.com")
    );
    assert_eq!(Rules::default().email_key("nothing"), None);
    let long = format!("{}@example.com", "a".repeat(250));
    let wide = Rules::default().with_unicode_mailbox(true);
    for rules in [Rules::default(), wide] {
        for email in [
            " An@Example.COM",
            "An@Bücher.example",
            "Ân@example.com",
            "info@mailinator.com",
            "nothing",
            "a@b",
            "@b.vn",
            "a@",
            "a b@c.vn",
            "\"a\"@c.vn",
            "a@-.vn",
            "a@b_c.vn",
            "a@b..vn",
            "a@b.vn.",
            &long,
        ] {
            let verdict = rules.judge(&item(&with("email", email)));
            let key = rules.email_key(email);
            assert_eq!(key, verdict.normalized.email.as_deref().map(str::to_owned));
        }
    }
    assert_eq!(wide.email_key("a@b"), None);
}
