//! Phone numbers: the vectors of the reference study, and a second library as an oracle.

use std::collections::BTreeMap;

use phonenumber::country;
use ratebox_intake::{Profile, Rules};

use crate::{Dice, errors, item, judge, warnings, with};

/// Normal form, type, and the codes under standard.
fn seen(phone: &str) -> (Option<String>, Option<String>, Vec<u16>) {
    let verdict = judge(Profile::Standard, &with("phone", phone));
    let mut codes = errors(&verdict);
    codes.extend(warnings(&verdict));
    let kind = verdict.normalized.phone_type.map(|kind| kind.to_string());
    (verdict.normalized.phone, kind, codes)
}

#[test]
fn the_vectors_of_the_study_hold() {
    let mobile = |codes: &[u16]| {
        (
            Some("+84912345678".into()),
            Some("mobile".into()),
            codes.to_vec(),
        )
    };
    assert_eq!(seen("0912 345 678"), mobile(&[190]));
    assert_eq!(seen("84912345678"), mobile(&[]));
    assert_eq!(seen("0084912345678"), mobile(&[]));
    assert_eq!(seen("912345678"), mobile(&[101]));
    assert_eq!(seen("+84 912 345 678"), mobile(&[190]));
    assert_eq!(seen("０９１２３４５６７８"), mobile(&[190]));
    assert_eq!(seen("0368123456").1.as_deref(), Some("mobile"));
    assert_eq!(
        seen("02438251234"),
        (
            Some("+842438251234".into()),
            Some("fixed_line".into()),
            vec![142]
        )
    );
    assert_eq!(seen("19001234").1.as_deref(), Some("premium_rate"));
    assert_eq!(
        seen("0123456789"),
        (Some("+84123456789".into()), None, vec![140])
    );
    assert_eq!(
        seen("01234567890"),
        (Some("+841234567890".into()), None, vec![143])
    );
    assert_eq!(
        seen("0168 123 4567"),
        (Some("+841681234567".into()), None, vec![143, 190])
    );
    assert_eq!(
        seen("09123456789"),
        (Some("+849123456789".into()), None, vec![140])
    );
    assert_eq!(seen("113"), (None, None, vec![101]));
    assert_eq!(seen("+84 113      "), (None, None, vec![123]));
    assert_eq!(seen("060180153252"), (None, None, vec![121, 144]));
}

#[test]
fn foreign_special_and_unreadable_numbers_are_told_apart() {
    assert_eq!(seen("+1 202 555 0123").2, [141, 190]);
    assert_eq!(seen("+999123456789").2, [140]);
    assert_eq!(seen("abcdefghijkl").2, [120]);
    assert_eq!(seen("0912345678 ext 12").2, [122, 190]);
    assert_eq!(seen("0912345678/0987654321").2, [121]);
    assert_eq!(seen("0912345678;phone-context=+84").2, [120]);
    assert_eq!(seen("tel:;phone-context=+84tel:1").2, [120]);
    assert_eq!(seen(&"9".repeat(5000)).2, [121, 144]);
    assert_eq!(
        errors(&judge(Profile::Strict, &with("phone", "02438251234"))),
        [142]
    );
}

#[test]
fn an_old_prefix_names_its_successor() {
    let verdict = judge(Profile::Classic, &with("phone", "01681234567"));
    let params = serde_json::to_value(&verdict.warnings[0].params).unwrap();
    assert_eq!(
        params,
        serde_json::json!({"old_prefix": "0168", "new_prefix": "038"})
    );
}

#[test]
fn another_region_reads_the_same_digits_in_its_own_way() {
    let rules = Rules::default().with_region("US").unwrap();
    assert_eq!(
        rules.phone_key("(202) 555-0123").as_deref(),
        Some("+12025550123")
    );
    assert!(Rules::default().with_region("XX").is_err());
    assert!(Rules::default().with_region("vietnam").is_err());
    let verdict = rules.judge(&item(&with("phone", "0912345678")));
    assert_eq!(verdict.normalized.phone.as_deref(), Some("+10912345678"));
}

#[test]
fn the_key_of_a_lookup_is_the_normal_form_of_a_verdict() {
    let rules = Rules::default();
    for phone in [
        "0912 345 678",
        "0123456789",
        "113",
        "+1 202 555 0123",
        "nothing",
    ] {
        let verdict = rules.judge(&item(&with("phone", phone)));
        assert_eq!(rules.phone_key(phone), verdict.normalized.phone, "{phone}");
    }
}

/// A number as somebody may write it: Vietnamese mostly, and of a dozen other countries.
fn written(dice: &mut Dice) -> String {
    let prefixes = [
        "03", "05", "07", "08", "09", "01", "02", "+84 9", "+84", "84", "0084", "016", "012",
        "024", "1800", "1900", "+1 202", "+44 7", "+49 15", "+33 6", "+81 90", "+86 13", "+65 8",
        "+66 8", "+855 1", "+856 20", "+61 4", "+7 9", "+82 10", "+91 9", "+63 9", "+62 8",
        "+60 1", "+886 9", "+852 9",
    ];
    let mut number = dice.pick(&prefixes).to_owned();
    let digits = 6 + dice.roll(4);
    for _ in 0..digits {
        if dice.roll(4) == 0 {
            number.push_str(dice.pick(&[" ", "-", ".", ""]));
        }
        number.push_str(&dice.digits(1));
    }
    number
}

/// What the other library says, in our words.
fn other(text: &str) -> Seen {
    match phonenumber::parse(Some(country::VN), text) {
        Ok(number) => {
            let e164 = number.format().mode(phonenumber::Mode::E164).to_string();
            let valid = number.is_valid();
            (Some(e164), valid)
        }
        Err(_) => (None, false),
    }
}

#[test]
fn two_libraries_agree_but_for_the_known_differences() {
    let mut dice = Dice(84);
    let mut unknown = BTreeMap::new();
    let (mut valid, mut known) = (0, BTreeMap::new());
    for _ in 0..6_000 {
        let text = written(&mut dice);
        let (normal, kind, _) = seen(&text);
        let ours = (normal, kind.is_some());
        let theirs = other(&text);
        valid += usize::from(ours.1);
        if ours.1 == theirs.1 && (!ours.1 || ours.0 == theirs.0) {
            continue;
        }
        match known_difference(&text, &ours, &theirs) {
            Some(reason) => *known.entry(reason).or_insert(0) += 1,
            None => _ = unknown.insert(text, (ours, theirs)),
        }
    }
    assert!(valid > 800, "only {valid} valid numbers were compared");
    assert!(
        unknown.is_empty(),
        "{} new differences: {unknown:#?}; known: {known:?}",
        unknown.len()
    );
}

/// Normal form and validity.
type Seen = (Option<String>, bool);

/// Where the two libraries are known to differ, and why ours is kept.
fn known_difference(text: &str, ours: &Seen, theirs: &Seen) -> Option<&'static str> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let normal = ours.0.as_deref().unwrap_or_default();
    if ours.1 && theirs.0.is_none() && text.contains(['-', '.']) {
        return Some("theirs stumbles over some separators behind a country code");
    }
    if ours.1 && !text.starts_with('+') && digits.len() == 9 && digits.starts_with("84") {
        return Some("theirs takes the 84 of a number of nine digits for the country code");
    }
    if ours.1
        && ["+8414", "+61496"]
            .iter()
            .any(|range| normal.starts_with(range))
    {
        return Some("ours has newer numbering plans");
    }
    let begins_valid = |cut| seen(&normal[..normal.len() - cut]).1.is_some();
    if !ours.1 && theirs.1 && ours.0 == theirs.0 && (1..=3).any(begins_valid) {
        return Some("theirs takes a number of too many digits whose beginning is valid");
    }
    None
}
