//! What repeats an earlier item of the same request.

use ratebox_intake::{Item, Profile, Rules};

use crate::{item, record, warnings, with};

fn judge_all(records: &[String]) -> Vec<Vec<u16>> {
    let items: Vec<Item> = records.iter().map(|record| item(record)).collect();
    Rules::new(Profile::Classic)
        .judge_all(&items)
        .iter()
        .map(warnings)
        .collect()
}

#[test]
fn values_are_compared_in_their_normal_form() {
    let seen = judge_all(&[
        record(
            "0912345678",
            "0071000123456",
            "an@example.com",
            "Nguyễn Văn An",
        ),
        record(
            "+84912345678",
            "0071000999999",
            "binh@example.com",
            "Trần Thị Bình",
        ),
        record(
            "0987654321",
            "0071-000-123456",
            "AN@example.com",
            "Lê Văn Cường",
        ),
    ]);
    assert_eq!(seen, [vec![], vec![180], vec![290, 390, 280, 380]]);
}

#[test]
fn a_whole_record_counts_once() {
    let seen = judge_all(&[with("name", "An"), with("name", "An"), with("name", "Ba")]);
    assert_eq!(seen, [vec![], vec![520], vec![180, 280, 380]]);
}

#[test]
fn a_repeat_names_the_first_of_its_kind() {
    let items: Vec<_> = (0..4).map(|_| item(&with("name", "An"))).collect();
    let verdicts = Rules::default().judge_all(&items);
    let first = serde_json::to_value(&verdicts[3].warnings[0].params).unwrap();
    assert_eq!(first, serde_json::json!({"first_item_no": 0}));
}

#[test]
fn empty_records_and_other_values_repeat_nothing() {
    let seen = judge_all(&["{}".into(), "{}".into(), "5".into(), "5".into()]);
    assert_eq!(seen, [vec![610], vec![610], vec![], vec![]]);
}
