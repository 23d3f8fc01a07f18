//! Checks a phone number: the two rules, then what the numbering plans say. Read once.

use crate::code;
use crate::finding::Params;
use crate::item::Field;
use crate::phone::{Kind, Number, Reading, Region, VIETNAM, read};
use crate::verdict::Verdict;

/// The rule's own minimum, in characters of the raw text.
const CHARS_MIN: usize = 10;
/// Digits that an account in a phone field has at least.
const ACCOUNT_DIGITS_MIN: usize = 12;

/// The prefixes of eleven-digit mobile numbers that Vietnam replaced in 2018, without their 0.
const OBSOLETE: [(&str, &str); 21] = [
    ("120", "70"),
    ("121", "79"),
    ("122", "77"),
    ("123", "83"),
    ("124", "84"),
    ("125", "85"),
    ("126", "76"),
    ("127", "81"),
    ("128", "78"),
    ("129", "82"),
    ("162", "32"),
    ("163", "33"),
    ("164", "34"),
    ("165", "35"),
    ("166", "36"),
    ("167", "37"),
    ("168", "38"),
    ("169", "39"),
    ("186", "56"),
    ("188", "58"),
    ("199", "59"),
];

/// Checks the field, and puts the number in its normal form.
pub(super) fn check(field: Field<'_>, region: Region, verdict: &mut Verdict) {
    match field {
        Field::Absent | Field::Text("") => verdict.note(&code::PHONE_REQUIRED),
        Field::WrongType(kind) => {
            verdict.add(
                &code::PHONE_WRONG_TYPE,
                Params::default().text("got", kind.word()),
            );
        }
        Field::Text(raw) => present(raw, region, verdict),
    }
}

/// The normal form of a number, if it can be one.
pub(super) fn key(raw: &str, region: Region) -> Option<String> {
    match read(raw, region) {
        Reading::Possible(number, _) => Some(number.e164()),
        Reading::NotANumber | Reading::Unassigned | Reading::TooShort | Reading::TooLong => None,
    }
}

fn present(raw: &str, region: Region, verdict: &mut Verdict) {
    let reading = read(raw, region);
    let chars = raw.chars().count();
    if chars < CHARS_MIN {
        too_few_characters(chars, verdict);
    } else {
        noticed(raw, &reading, region, verdict);
    }
    if let Reading::Possible(number, kind) = &reading {
        verdict.normalized.phone = Some(number.e164());
        verdict.normalized.phone_type = kind.map(|kind| word(kind).into());
    }
}

fn too_few_characters(chars: usize, verdict: &mut Verdict) {
    verdict.tell(
        &code::PHONE_UNDER_TEN,
        format!("Phone number too short: {chars} chars, minimum {CHARS_MIN}"),
        Params::default()
            .number("got", chars)
            .number("min", CHARS_MIN),
    );
}

/// Everything beyond the two rules.
fn noticed(raw: &str, reading: &Reading, region: Region, verdict: &mut Verdict) {
    match reading {
        Reading::NotANumber => verdict.note(&code::PHONE_NOT_A_NUMBER),
        Reading::Unassigned => verdict.note(&code::PHONE_UNASSIGNED),
        Reading::TooShort => verdict.note(&code::PHONE_TOO_SHORT),
        Reading::TooLong => {
            verdict.note(&code::PHONE_TOO_LONG);
            if looks_like_account(raw) {
                verdict.note(&code::PHONE_LIKE_ACCOUNT);
            }
        }
        Reading::Possible(number, kind) => {
            if number.has_extension {
                verdict.note(&code::PHONE_EXTENSION);
            }
            match kind {
                None => not_in_use(number, verdict),
                Some(kind) => in_use(number, *kind, region, verdict),
            }
        }
    }
    if !is_plain(raw) && matches!(reading, Reading::Possible(..)) {
        verdict.note(&code::PHONE_NORMALISED);
    }
}

fn in_use(number: &Number, kind: Kind, region: Region, verdict: &mut Verdict) {
    if region.calling_code() != number.calling_code {
        verdict.add(
            &code::PHONE_REGION,
            Params::default().number("calling_code", number.calling_code.into()),
        );
    }
    if !matches!(kind, Kind::Mobile | Kind::FixedLineOrMobile) {
        verdict.add(
            &code::PHONE_TYPE,
            Params::default().text("type", word(kind)),
        );
    }
}

fn not_in_use(number: &Number, verdict: &mut Verdict) {
    match replaced_prefix(number) {
        Some((old, new)) => verdict.add(
            &code::PHONE_OBSOLETE,
            Params::default()
                .text("old_prefix", format!("0{old}"))
                .text("new_prefix", format!("0{new}")),
        ),
        None => verdict.note(&code::PHONE_UNASSIGNED),
    }
}

/// The old and new prefix of an eleven-digit Vietnamese mobile number (ten without the 0).
fn replaced_prefix(number: &Number) -> Option<(&'static str, &'static str)> {
    let digits = number.national.trim_start_matches('0');
    if number.calling_code != VIETNAM || digits.len() != 10 {
        return None;
    }
    OBSOLETE
        .iter()
        .find(|(old, _)| digits.starts_with(old))
        .copied()
}

/// Only digits, and as many as accounts have and numbers do not.
fn looks_like_account(raw: &str) -> bool {
    let digits = raw.bytes().filter(u8::is_ascii_digit).count();
    digits >= ACCOUNT_DIGITS_MIN && digits == raw.trim().len()
}

/// Whether there was nothing to clean: an optional plus, and ASCII digits.
fn is_plain(raw: &str) -> bool {
    raw.strip_prefix('+')
        .unwrap_or(raw)
        .bytes()
        .all(|byte| byte.is_ascii_digit())
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::FixedLine => "fixed_line",
        Kind::Mobile => "mobile",
        Kind::FixedLineOrMobile => "fixed_line_or_mobile",
        Kind::TollFree => "toll_free",
        Kind::PremiumRate => "premium_rate",
        Kind::SharedCost => "shared_cost",
        Kind::Voip => "voip",
        Kind::PersonalNumber => "personal_number",
        Kind::Pager => "pager",
        Kind::Uan => "universal_access",
        Kind::VoiceMail => "voice_mail",
    }
}
