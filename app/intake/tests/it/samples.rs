//! The shipped samples: reproducible, and with everything in them that the rules can say.

use std::collections::BTreeMap;
use std::path::Path;

use ratebox_intake::{Decision, Item, Rules, Shape, decode};

use crate::{errors, warnings};

#[path = "../../examples/make_reports.rs"]
#[expect(dead_code, reason = "its main function only prints")]
mod make_reports;

fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples")
        .join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The records of the sample as items; cells are quoted as RFC 4180 says.
fn reports() -> Vec<Item> {
    let text = sample("reports.csv");
    let mut rows = rows(&text);
    let header = rows.remove(0);
    let json = |row: Vec<String>| {
        let fields: serde_json::Map<_, _> = header
            .iter()
            .cloned()
            .zip(row.into_iter().map(Into::into))
            .collect();
        serde_json::Value::Object(fields).to_string()
    };
    rows.into_iter()
        .map(|row| Item::parse(json(row).as_bytes()).expect("serde_json writes JSON"))
        .collect()
}

fn rows(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => cell.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            c => cell.push(c),
        }
    }
    rows
}

#[test]
fn the_reports_hold_every_rule_and_many_warnings() {
    let items = reports();
    assert!(items.len() >= 2_000, "{} records", items.len());
    let mut counts = BTreeMap::new();
    let mut done = 0;
    for verdict in items.iter().map(|item| Rules::default().judge(item)) {
        done += usize::from(verdict.decision() == Decision::Done);
        for code in errors(&verdict).into_iter().chain(warnings(&verdict)) {
            *counts.entry(code).or_insert(0) += 1;
        }
    }
    assert!(
        done * 10 > items.len() * 6,
        "only {done} of {} are DONE",
        items.len()
    );
    for code in [
        100, 101, 200, 201, 300, 400, 120, 121, 122, 140, 141, 142, 143, 144, 190, 220, 221, 240,
        241, 243, 244, 290, 320, 321, 340, 341, 342, 360, 361, 390, 420, 440, 441, 442, 443, 490,
    ] {
        assert!(
            counts.get(&code).is_some_and(|count| *count >= 2),
            "code {code}: {counts:?}"
        );
    }
}

#[test]
fn the_samples_are_what_their_program_prints() {
    let again = "run: cargo run -p ratebox-intake --example make_reports";
    assert!(
        make_reports::reports() == sample("reports.csv"),
        "{again} reports > examples/reports.csv"
    );
    assert!(
        make_reports::legacy() == sample("legacy.ndjson"),
        "{again} legacy > examples/legacy.ndjson"
    );
}

#[test]
fn the_legacy_sample_holds_the_three_shapes() {
    let mut shapes = BTreeMap::new();
    for line in sample("legacy.ndjson").lines() {
        let fields: BTreeMap<String, String> = serde_json::from_str(line).expect(line);
        let fields: Vec<_> = fields.into_iter().collect();
        let decoded = decode(&fields, 1000).expect(line);
        assert_eq!(decoded.items.len(), 1);
        *shapes.entry(decoded.shape.word()).or_insert(0) += 1;
    }
    for shape in [Shape::LegacyItem, Shape::LegacyFlat, Shape::LegacyExtension] {
        assert!(
            shapes.get(shape.word()).is_some_and(|count| *count >= 10),
            "{shapes:?}"
        );
    }
    assert_eq!(shapes.len(), 3);
}
