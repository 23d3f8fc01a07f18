//! Bank accounts: separators, IBANs, cards, and the names of banks.

use ratebox_intake::{Profile, Rules};

use crate::{NONE, errors, judge, warnings, with};

/// Normal form, BIN, and the codes under standard.
fn seen(account: &str) -> (Option<String>, Option<String>, Vec<u16>) {
    seen_json(&with("bank_account", account))
}

fn seen_json(json: &str) -> (Option<String>, Option<String>, Vec<u16>) {
    let verdict = judge(Profile::Standard, json);
    let mut codes = errors(&verdict);
    codes.extend(warnings(&verdict));
    let normal = verdict.normalized;
    (
        normal.bank_account,
        normal.bank_bin.map(|bin| bin.to_string()),
        codes,
    )
}

fn check(account: &str, normal: Option<&str>, bin: Option<&str>, codes: &[u16]) {
    let expected = (
        normal.map(str::to_owned),
        bin.map(str::to_owned),
        codes.to_vec(),
    );
    assert_eq!(seen(account), expected, "{account}");
}

#[test]
fn separators_and_wide_digits_are_cleaned() {
    check("0071000123456", Some("0071000123456"), None, &[]);
    check("0071 000 123456", Some("0071000123456"), None, &[290]);
    check("0071-000-123456", Some("0071000123456"), None, &[290]);
    check(
        "００７１０００１２３４５６",
        Some("0071000123456"),
        None,
        &[290],
    );
    check("STK: 0071000123456", Some("0071000123456"), None, &[290]);
    check("0071000123456€", None, None, &[220]);
    check("số không rõ", None, None, &[220]);
    check("1-2-3-4-5", Some("12345"), None, &[222, 290]);
    check(
        "12345678901234567890",
        Some("12345678901234567890"),
        None,
        &[221],
    );
    check(&"1".repeat(300), None, None, &[221]);
    check("--------", None, None, &[222, 290]);
}

#[test]
fn ibans_are_checked_fully() {
    check(
        "DE89 3704 0044 0532 0130 00",
        Some("DE89370400440532013000"),
        None,
        &[290],
    );
    check(
        "de89370400440532013000",
        Some("DE89370400440532013000"),
        None,
        &[290],
    );
    check(
        "GB82WEST12345698765432",
        Some("GB82WEST12345698765432"),
        None,
        &[],
    );
    check(
        "IBAN GB82 WEST 1234 5698 7654 32",
        Some("GB82WEST12345698765432"),
        None,
        &[290],
    );
    check(
        "GB82WEST12345698765433",
        Some("GB82WEST12345698765433"),
        None,
        &[240],
    );
    check(
        "DE8937040044053201300",
        Some("DE8937040044053201300"),
        None,
        &[241],
    );
    check("VN89370400440532", Some("VN89370400440532"), None, &[]);
}

#[test]
fn a_bank_is_found_in_the_text_the_card_or_beside_it() {
    check(
        "VCB 0071000123456",
        Some("0071000123456"),
        Some("970436"),
        &[290],
    );
    check(
        "0071000123456 (Vietcombank Hà Nội)",
        Some("0071000123456"),
        Some("970436"),
        &[290],
    );
    check(
        "Ngân hàng Ngoại thương 0071000123456",
        Some("0071000123456"),
        Some("970436"),
        &[290],
    );
    check(
        "Techcombank 190012345",
        Some("190012345"),
        Some("970407"),
        &[243, 290],
    );
    check(
        "9704361234567890",
        Some("9704361234567890"),
        Some("970436"),
        &[],
    );
    check("9704991234567890", Some("9704991234567890"), None, &[242]);
    let beside = |bank: &str| {
        seen_json(&format!(
            r#"{{"phone":"0912345678","bank_account":"0071000123456","bank_name":"{bank}"}}"#
        ))
    };
    assert_eq!(beside("Ngân hàng Vietcombank").1.as_deref(), Some("970436"));
    assert_eq!(beside("970436").1.as_deref(), Some("970436"));
    assert_eq!(beside("Ngân hàng Không Có Thật").2, [242]);
    assert_eq!(beside("").2, NONE);
}

#[test]
fn an_account_that_looks_like_a_phone_number_is_only_noticed() {
    check("0912345678", Some("0912345678"), None, &[244]);
    check("0212345678", Some("0212345678"), None, &[]);
}

#[test]
fn the_key_of_a_lookup_is_the_normal_form_of_a_verdict() {
    for account in [
        "VCB 0071000123456",
        "DE89 3704 0044 0532 0130 00",
        "0071000123456€",
        "12",
    ] {
        assert_eq!(
            Rules::default().bank_account_key(account),
            seen(account).0,
            "{account}"
        );
    }
}
