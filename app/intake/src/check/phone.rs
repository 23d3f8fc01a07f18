//! Checks a phone number: the two rules, then what the numbering plans say. Parsed once.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rlibphonenumber::{
    NumberLengthType, PHONE_NUMBER_UTIL, ParseError, PhoneNumber, PhoneNumberFormat,
    PhoneNumberType, Region, ValidationError,
};

use crate::code;
use crate::finding::Params;
use crate::item::Field;
use crate::verdict::Verdict;

/// The rule's own minimum, in characters of the raw text.
const CHARS_MIN: usize = 10;
/// Longer texts are not parsed: no number with its extension is written with more characters.
const CHARS_MAX: usize = 100;
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

/// Country code of Vietnam.
const VIETNAM: i32 = 84;

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
        Reading::Possible(number, _) => Some(e164(&number)),
        Reading::NotANumber | Reading::Unassigned | Reading::TooShort | Reading::TooLong => None,
    }
}

/// A region by its letters, if it has a numbering plan.
pub(super) fn region(letters: &str) -> Option<Region> {
    let region = Region::from_code(letters).ok()?;
    PHONE_NUMBER_UTIL
        .get_country_code_for_region(region)
        .map(|_| region)
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
        verdict.normalized.phone = Some(e164(number));
        verdict.normalized.phone_type = word(*kind).map(Into::into);
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
            if number.extension.is_some() {
                verdict.note(&code::PHONE_EXTENSION);
            }
            match kind {
                PhoneNumberType::Unknown => not_in_use(number, verdict),
                _ => in_use(number, *kind, region, verdict),
            }
        }
    }
    if !is_plain(raw) && matches!(reading, Reading::Possible(..)) {
        verdict.note(&code::PHONE_NORMALISED);
    }
}

fn in_use(number: &PhoneNumber, kind: PhoneNumberType, region: Region, verdict: &mut Verdict) {
    if PHONE_NUMBER_UTIL.get_country_code_for_region(region) != Some(number.country_code) {
        let calling_code = usize::try_from(number.country_code).unwrap_or_default();
        verdict.add(
            &code::PHONE_REGION,
            Params::default().number("calling_code", calling_code),
        );
    }
    if !matches!(
        kind,
        PhoneNumberType::Mobile | PhoneNumberType::FixedLineOrMobile
    ) {
        let kind = word(kind).unwrap_or("unknown");
        verdict.add(&code::PHONE_TYPE, Params::default().text("type", kind));
    }
}

fn not_in_use(number: &PhoneNumber, verdict: &mut Verdict) {
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
fn replaced_prefix(number: &PhoneNumber) -> Option<(&'static str, &'static str)> {
    let eleven = 1_000_000_000..2_000_000_000;
    if number.country_code != VIETNAM || !eleven.contains(&number.national_number) {
        return None;
    }
    let digits = number.national_number.to_string();
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

fn e164(number: &PhoneNumber) -> String {
    PHONE_NUMBER_UTIL
        .format(number, PhoneNumberFormat::E164)
        .into_owned()
}

fn word(kind: PhoneNumberType) -> Option<&'static str> {
    match kind {
        PhoneNumberType::FixedLine => Some("fixed_line"),
        PhoneNumberType::Mobile => Some("mobile"),
        PhoneNumberType::FixedLineOrMobile => Some("fixed_line_or_mobile"),
        PhoneNumberType::TollFree => Some("toll_free"),
        PhoneNumberType::PremiumRate => Some("premium_rate"),
        PhoneNumberType::SharedCost => Some("shared_cost"),
        PhoneNumberType::VoIP => Some("voip"),
        PhoneNumberType::PersonalNumber => Some("personal_number"),
        PhoneNumberType::Pager => Some("pager"),
        PhoneNumberType::UAN => Some("universal_access"),
        PhoneNumberType::VoiceMail => Some("voice_mail"),
        PhoneNumberType::Unknown => None,
    }
}

/// What the numbering plans say about a text.
enum Reading {
    /// A number of a possible length, with its type when it is in use.
    Possible(PhoneNumber, PhoneNumberType),
    NotANumber,
    Unassigned,
    TooShort,
    TooLong,
}

/// Reads a text as a number of the region, or of the country that it names.
fn read(raw: &str, region: Region) -> Reading {
    if raw.len() > CHARS_MAX * 4 || raw.chars().nth(CHARS_MAX).is_some() {
        return Reading::TooLong;
    }
    // RFC 3966 parameters: nobody writes them by hand, and the parser slices them without care.
    if raw.contains(";phone-context") {
        return Reading::NotANumber;
    }
    if let Some(reading) = plain_mobile(raw).filter(|_| region == Region::VN) {
        return reading;
    }
    // The parser is young: if it panics on some text, that text is no number, and the worker lives on.
    catch_unwind(AssertUnwindSafe(|| parse(raw, region))).unwrap_or(Reading::NotANumber)
}

/// The short way for what nearly every Vietnamese record holds: ten digits from `0`, or nine behind `+84`, in the
/// mobile ranges. Says what the parser would say, for half the time; a test compares the two.
fn plain_mobile(raw: &str) -> Option<Reading> {
    let national = raw.strip_prefix("+84").or_else(|| raw.strip_prefix('0'))?;
    let (mut digits, mut number) = (0, 0_u64);
    for byte in national.bytes() {
        match byte {
            b'0'..=b'9' => {
                digits += 1;
                number = number.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
            }
            b' ' | b'.' | b'-' if digits > 0 => {}
            _ => return None,
        }
    }
    let is_mobile_shaped = digits == 9 && (300_000_000..1_000_000_000).contains(&number);
    if !is_mobile_shaped || !raw.ends_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let number = PhoneNumber {
        country_code: VIETNAM,
        national_number: number,
        ..PhoneNumber::default()
    };
    let kind = PHONE_NUMBER_UTIL.get_number_type(&number);
    (kind == PhoneNumberType::Mobile).then_some(Reading::Possible(number, kind))
}

fn parse(raw: &str, region: Region) -> Reading {
    let number = match PHONE_NUMBER_UTIL.parse(raw, Some(region)) {
        Ok(number) => number,
        Err(ParseError::NotANumber(_)) => return Reading::NotANumber,
        Err(ParseError::InvalidCountryCode) => return Reading::Unassigned,
        Err(ParseError::TooShortAfterIdd | ParseError::TooShortNsn) => return Reading::TooShort,
        Err(ParseError::TooLongNsn) => return Reading::TooLong,
    };
    let kind = PHONE_NUMBER_UTIL.get_number_type(&number);
    if kind != PhoneNumberType::Unknown {
        return Reading::Possible(number, kind);
    }
    match PHONE_NUMBER_UTIL.is_possible_number_with_reason(&number) {
        Ok(NumberLengthType::IsPossible) => Reading::Possible(number, kind),
        Ok(NumberLengthType::IsPossibleLocalOnly) => Reading::TooShort,
        Err(ValidationError::TooShort) => Reading::TooShort,
        Err(ValidationError::TooLong) => Reading::TooLong,
        Err(ValidationError::InvalidLength | ValidationError::InvalidCountryCode) => {
            Reading::Unassigned
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(reading: Reading) -> Option<(String, PhoneNumberType)> {
        match reading {
            Reading::Possible(number, kind) => Some((format!("{number:?}"), kind)),
            Reading::NotANumber | Reading::Unassigned | Reading::TooShort | Reading::TooLong => {
                None
            }
        }
    }

    #[test]
    fn the_short_way_says_what_the_parser_says() {
        let mut taken = 0;
        for step in 0..4_000_u64 {
            let digits = format!("{:09}", step * 249_989 % 1_000_000_000);
            let (a, rest) = digits.split_at(2);
            let (b, c) = rest.split_at(3);
            for text in [
                format!("0{digits}"),
                format!("+84{digits}"),
                format!("0{a} {b} {c}"),
                format!("+84 {a}.{b}-{c}"),
                format!("0{a}--{b} . {c}"),
                format!("0{digits}0"),
            ] {
                if let Some(reading) = plain_mobile(&text) {
                    taken += 1;
                    assert_eq!(shown(reading), shown(parse(&text, Region::VN)), "{text}");
                }
            }
        }
        assert!(taken > 4_000, "only {taken} numbers went the short way");
    }
}
