//! The list of codes and the page made from it.

use std::collections::HashSet;
use std::path::Path;

use ratebox_intake::{Severity, codes, codes_page};

#[test]
fn numbers_ascend_and_slugs_are_unique() {
    let all: Vec<_> = codes().collect();
    assert!(all.windows(2).all(|pair| pair[0].number < pair[1].number));
    let slugs: HashSet<_> = all.iter().map(|code| code.slug).collect();
    assert_eq!(slugs.len(), all.len());
}

#[test]
fn the_hundred_is_the_field() {
    for code in codes() {
        let field = match code.number / 100 {
            1 => "phone",
            2 => "bank_account",
            3 => "email",
            4 => "name",
            5 | 6 => "record",
            9 => "system",
            other => panic!("no field has the hundred {other}"),
        };
        assert_eq!(code.field, field, "{}", code.number);
        assert!(code.slug.contains('.'));
    }
}

#[test]
fn under_classic_only_rules_types_and_shape_are_errors() {
    let errors: Vec<_> = codes()
        .filter(|code| !code.reserved && code.classic == Severity::Error)
        .map(|code| code.number)
        .collect();
    assert_eq!(
        errors,
        [100, 101, 110, 200, 201, 210, 300, 310, 400, 410, 500]
    );
}

#[test]
fn a_stricter_profile_is_never_milder() {
    let rank = |severity| match severity {
        Severity::Error => 2,
        Severity::Warning => 1,
        Severity::Info => 0,
    };
    for code in codes() {
        assert!(
            rank(code.classic) <= rank(code.standard) && rank(code.standard) <= rank(code.strict)
        );
        let ever_warns = [code.classic, code.standard, code.strict].contains(&Severity::Warning);
        assert_eq!(
            code.weight > 0,
            ever_warns,
            "{} weighs {}",
            code.number,
            code.weight
        );
    }
}

#[test]
fn the_page_of_codes_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/Codes.md");
    let page = std::fs::read_to_string(path).expect("docs/Codes.md exists");
    assert!(
        page == codes_page(),
        "run: cargo run -p ratebox-intake --example codes > docs/Codes.md"
    );
}
