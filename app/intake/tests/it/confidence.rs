//! Confidence: 0.95 less the weights of the warnings, never less than 0.05.

use ratebox_intake::{Profile, Rules, Severity};

use crate::{Dice, item, judge, record, with};

#[test]
fn a_clean_record_has_95_hundredths() {
    assert_eq!(
        judge(Profile::Classic, &with("phone", "0912345678"))
            .confidence
            .value(),
        0.95
    );
}

#[test]
fn warnings_are_subtracted_and_errors_and_information_are_not() {
    let mut dice = Dice(7);
    for _ in 0..2_000 {
        let phone = format!(
            "{}{}",
            dice.pick(&["0", "+84", "+1", "x", "０"]),
            dice.digits(10)
        );
        let account = format!(
            "{}{}",
            dice.pick(&["", "DE", "VCB", "9704", "?"]),
            dice.digits(12)
        );
        let email = format!(
            "{}@{}",
            dice.pick(&["a", ".a", "info"]),
            dice.pick(&["x.vn", "yopmail.com", "a.local", "a.zz"])
        );
        let name = dice.pick(&["An", "Nguуễn", "test", "A\u{200b}n\u{202e}", "x 1"]);
        let json = record(&phone, &account, &email, name);
        for profile in [Profile::Classic, Profile::Standard, Profile::Strict] {
            let verdict = judge(profile, &json);
            let lost: u8 = verdict
                .warnings
                .iter()
                .filter(|finding| finding.severity == Severity::Warning)
                .map(|finding| finding.code.weight)
                .sum();
            assert_eq!(
                verdict.confidence.hundredths(),
                95_u8.saturating_sub(lost).max(5),
                "{json}"
            );
        }
    }
}

#[test]
fn it_never_falls_below_five_hundredths() {
    let worst = record(
        "?????????????",
        "€€€€€€€€€",
        "..@-.-",
        "\u{202e}\u{200b}xу1",
    );
    let verdict = Rules::new(Profile::Classic).judge(&item(&worst));
    assert_eq!(verdict.confidence.value(), 0.05);
}
