//! The classic profile is exactly the six rules: compared with a second, straight-line writing of them.

use ratebox_intake::{Item, Profile, Rules};
use serde_json::{Value, json};

use crate::Dice;

/// The six rules as the predecessor ran them, with our decisions: null is absent, an empty e-mail is absent, an
/// empty name is present, a wrong type is an error of its own.
fn oracle(record: &Value) -> Vec<(u16, String)> {
    let mut errors = Vec::new();
    let chars = |text: &str| text.chars().count();
    match &record["phone"] {
        Value::Null => errors.push((100, "Phone number is required".into())),
        Value::String(s) if s.is_empty() => errors.push((100, "Phone number is required".into())),
        Value::String(s) if chars(s) < 10 => {
            errors.push((
                101,
                format!("Phone number too short: {} chars, minimum 10", chars(s)),
            ));
        }
        Value::String(_) => {}
        _ => errors.push((110, "Phone number must be a string".into())),
    }
    match &record["bank_account"] {
        Value::Null => errors.push((200, "Bank account is required".into())),
        Value::String(s) if s.is_empty() => errors.push((200, "Bank account is required".into())),
        Value::String(s) if chars(s) < 8 => {
            errors.push((
                201,
                format!("Bank account too short: {} chars, minimum 8", chars(s)),
            ));
        }
        Value::String(_) => {}
        _ => errors.push((210, "Bank account must be a string".into())),
    }
    match &record["email"] {
        Value::Null => {}
        Value::String(s) if s.is_empty() => {}
        Value::String(s) => {
            let after = s.split('@').next_back().unwrap_or_default();
            if !s.contains('@') || !after.contains('.') {
                errors.push((300, format!("Invalid email format: {s}")));
            }
        }
        _ => errors.push((310, "Email must be a string".into())),
    }
    match &record["name"] {
        Value::Null => {}
        Value::String(s) if chars(s) < 2 => {
            errors.push((400, "Name must be at least 2 characters".into()))
        }
        Value::String(_) => {}
        _ => errors.push((410, "Name must be a string".into())),
    }
    errors
}

const ALPHABET: [&str; 34] = [
    "0",
    "1",
    "2",
    "9",
    "84",
    "+",
    " ",
    "-",
    ".",
    "@",
    "a",
    "B",
    "VCB",
    "x",
    "ễ",
    "у",
    "９",
    "\u{200b}",
    "\u{202e}",
    "😀",
    "e\u{302}\u{301}",
    "\"",
    "\\",
    "\n",
    ";",
    "(",
    ")",
    "example.com",
    "mailinator.com",
    "DE",
    "IBAN",
    "漢",
    "؀",
    ";phone-context=",
];

fn text(dice: &mut Dice) -> String {
    let longest = if dice.roll(3) == 0 { 4 } else { 14 };
    (0..dice.roll(longest))
        .map(|_| dice.pick(&ALPHABET))
        .collect()
}

fn value(dice: &mut Dice) -> Option<Value> {
    match dice.roll(40) {
        0 => None,
        1 => Some(Value::Null),
        2 => Some(json!(987_654_321)),
        3 => Some(json!([1, "a"])),
        4 => Some(json!({"a": {"phone": "1"}})),
        5 => Some(json!(true)),
        6 => Some(json!(1.5)),
        7..=14 => Some(dice.digits(10).into()),
        15..=18 => Some(format!("0{}", dice.digits(9)).into()),
        _ => Some(text(dice).into()),
    }
}

#[test]
fn classic_is_exactly_the_six_rules() {
    let mut dice = Dice(2025);
    let rules = Rules::new(Profile::Classic);
    for _ in 0..100_000 {
        let mut record = json!({"metadata": {"phone": 5}});
        for field in ["phone", "bank_account", "email", "name"] {
            if let Some(value) = value(&mut dice) {
                record[field] = value;
            }
        }
        let text = record.to_string();
        let item = Item::parse(text.as_bytes()).expect("serde_json writes JSON");
        let verdict = rules.judge(&item);
        let ours: Vec<_> = verdict
            .errors
            .iter()
            .map(|finding| (finding.code.number, finding.message.to_string()))
            .collect();
        assert_eq!(ours, oracle(&record), "{text}");
        assert!((5..=95).contains(&verdict.confidence.hundredths()));
    }
}
