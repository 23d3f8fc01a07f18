//! The reference: a port of libphonenumber with the patterns of the same release. Whatever a text is,
//! both have to read the same out of it.

use rlibphonenumber::{
    NumberLengthType, PHONE_NUMBER_UTIL, ParseError, PhoneNumberFormat, PhoneNumberType,
    Region as TheirRegion, ValidationError,
};

use super::{Kind, Reading, Region, plain_mobile, read};

/// What was read: normal form, kind, whether there is an extension; or why it is no number.
type Seen = Result<(String, Option<Kind>, bool), &'static str>;

fn ours(text: &str, region: &str) -> Seen {
    let region = Region::new(region).expect("every region of theirs is one of ours");
    match read(text, region) {
        Reading::Possible(number, kind) => Ok((number.e164(), kind, number.has_extension)),
        Reading::NotANumber => Err("no number"),
        Reading::Unassigned => Err("unassigned"),
        Reading::TooShort => Err("too short"),
        Reading::TooLong => Err("too long"),
    }
}

fn theirs(text: &str, region: &str) -> Seen {
    let region = TheirRegion::from_code(region).expect("two letters");
    let number = PHONE_NUMBER_UTIL.parse(text, Some(region));
    let number = number.map_err(|error| match error {
        ParseError::NotANumber(_) => "no number",
        ParseError::InvalidCountryCode => "unassigned",
        ParseError::TooShortAfterIdd | ParseError::TooShortNsn => "too short",
        ParseError::TooLongNsn => "too long",
    })?;
    let kind = kind(PHONE_NUMBER_UTIL.get_number_type(&number));
    let length = PHONE_NUMBER_UTIL.is_possible_number_with_reason(&number);
    if kind.is_none() {
        match length {
            Ok(NumberLengthType::IsPossible) => {}
            Ok(NumberLengthType::IsPossibleLocalOnly) | Err(ValidationError::TooShort) => {
                return Err("too short");
            }
            Err(ValidationError::TooLong) => return Err("too long"),
            Err(ValidationError::InvalidLength | ValidationError::InvalidCountryCode) => {
                return Err("unassigned");
            }
        }
    }
    let normal = PHONE_NUMBER_UTIL.format(&number, PhoneNumberFormat::E164);
    Ok((normal.into_owned(), kind, number.extension.is_some()))
}

fn kind(theirs: PhoneNumberType) -> Option<Kind> {
    Some(match theirs {
        PhoneNumberType::FixedLine => Kind::FixedLine,
        PhoneNumberType::Mobile => Kind::Mobile,
        PhoneNumberType::FixedLineOrMobile => Kind::FixedLineOrMobile,
        PhoneNumberType::TollFree => Kind::TollFree,
        PhoneNumberType::PremiumRate => Kind::PremiumRate,
        PhoneNumberType::SharedCost => Kind::SharedCost,
        PhoneNumberType::VoIP => Kind::Voip,
        PhoneNumberType::PersonalNumber => Kind::PersonalNumber,
        PhoneNumberType::Pager => Kind::Pager,
        PhoneNumberType::UAN => Kind::Uan,
        PhoneNumberType::VoiceMail => Kind::VoiceMail,
        PhoneNumberType::Unknown => return None,
    })
}

/// Chance with a seed, so that a failure comes again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.roll(list.len())]
    }
}

/// Compares texts and keeps what differs.
#[derive(Default)]
struct Comparison {
    compared: usize,
    in_use: usize,
    different: Vec<String>,
}

impl Comparison {
    fn compare(&mut self, text: &str, region: &str) {
        let (ours, theirs) = (ours(text, region), theirs(text, region));
        self.compared += 1;
        self.in_use += usize::from(matches!(ours, Ok((_, Some(_), _))));
        if ours != theirs {
            let line = format!("{region} {text:?}: ours {ours:?}, theirs {theirs:?}");
            self.different.push(line);
        }
    }

    fn finish(self, compared_min: usize, in_use_min: usize) {
        let shown = self.different.iter().take(40).cloned();
        let shown = shown.collect::<Vec<_>>().join("\n");
        assert!(
            self.different.is_empty(),
            "{} of {} differ:\n{shown}",
            self.different.len(),
            self.compared
        );
        assert!(self.compared >= compared_min, "only {}", self.compared);
        assert!(self.in_use >= in_use_min, "only {} in use", self.in_use);
    }
}

fn regions() -> Vec<TheirRegion> {
    let mut regions: Vec<_> = PHONE_NUMBER_UTIL.get_supported_regions().collect();
    regions.sort_by_key(|region| region.as_region_str().to_string());
    regions
}

const KINDS: [PhoneNumberType; 11] = [
    PhoneNumberType::FixedLine,
    PhoneNumberType::Mobile,
    PhoneNumberType::TollFree,
    PhoneNumberType::PremiumRate,
    PhoneNumberType::SharedCost,
    PhoneNumberType::VoIP,
    PhoneNumberType::PersonalNumber,
    PhoneNumberType::Pager,
    PhoneNumberType::UAN,
    PhoneNumberType::VoiceMail,
    PhoneNumberType::FixedLineOrMobile,
];

/// A few digits changed, taken away or added.
fn changed(digits: &str, dice: &mut Dice) -> String {
    let mut digits: Vec<char> = digits.chars().collect();
    for _ in 0..dice.roll(4) {
        let at = dice.roll(digits.len());
        digits[at] = char::from(b'0' + dice.roll(10) as u8);
    }
    match dice.roll(8) {
        0 => _ = digits.pop(),
        1 => digits.push(char::from(b'0' + dice.roll(10) as u8)),
        2 => _ = digits.remove(0),
        3 => digits.insert(0, char::from(b'0' + dice.roll(10) as u8)),
        _ => {}
    }
    digits.into_iter().collect()
}

/// The ways to write a number of a country.
fn written(code: i32, national: &str, dice: &mut Dice) -> String {
    let before = ["", "0", "1", "8", "06", "0", "015", "9", "180020", "031"];
    let abroad = ["00", "011", "810", "0011", "010", "001", "+00"];
    match dice.roll(8) {
        0 | 1 => format!("+{code}{national}"),
        2 => format!("+{code} ({}) {national}", dice.pick(&before)),
        3 => format!("{code}{national}"),
        4 => format!("{}{code}{national}", dice.pick(&abroad)),
        5 => national.to_owned(),
        _ => format!("{}{national}", dice.pick(&before)),
    }
}

#[test]
fn numbers_of_every_region_and_kind_are_read_as_libphonenumber_reads_them() {
    let mut dice = Dice(1);
    let mut comparison = Comparison::default();
    for region in regions() {
        let letters = region.as_region_str().to_string();
        for kind in KINDS {
            let example = PHONE_NUMBER_UTIL.get_example_number_for_type_and_region(region, kind);
            let Ok(example) = example else { continue };
            let national = rlibphonenumber::get_national_significant_number_owned(&example);
            for round in 0..60 {
                let changed = match round {
                    0..8 => national.clone(),
                    _ => changed(&national, &mut dice),
                };
                let text = written(example.country_code, &changed, &mut dice);
                comparison.compare(&text, &letters);
                comparison.compare(&text, "VN");
            }
        }
    }
    comparison.finish(150_000, 40_000);
}

#[test]
fn the_numbers_of_no_country_are_read_as_libphonenumber_reads_them() {
    let mut dice = Dice(2);
    let mut comparison = Comparison::default();
    for code in PHONE_NUMBER_UTIL.get_supported_global_network_calling_codes() {
        for _ in 0..500 {
            let digits: String = (0..7 + dice.roll(8))
                .map(|_| char::from(b'0' + dice.roll(10) as u8))
                .collect();
            comparison.compare(&format!("+{code}{digits}"), "VN");
        }
    }
    for code in 0..1_000 {
        for digits in ["912345678", "2025550123", "1", "12", "12345678901234567"] {
            comparison.compare(&format!("+{code}{digits}"), "VN");
            comparison.compare(&format!("00{code}{digits}"), "GB");
        }
    }
    comparison.finish(10_000, 300);
}

/// Pieces of texts: digits, and everything that has a meaning somewhere.
const PIECES: [&str; 92] = [
    "0",
    "1",
    "2",
    "3",
    "4",
    "5",
    "6",
    "7",
    "8",
    "9",
    "09",
    "03",
    "84",
    "+84",
    "0084",
    "912",
    "345678",
    "0912345678",
    "+1 202 555 0123",
    "2025550123",
    "4420",
    "+",
    "＋",
    "++",
    " ",
    "  ",
    "-",
    "--",
    ".",
    "(",
    ")",
    "[",
    "]",
    "/",
    "//",
    "\\",
    "~",
    "*",
    "#",
    "x",
    "X",
    " x",
    "/x",
    "/ x",
    "\\x",
    ",",
    ",,",
    ", ,",
    ";",
    ";ext=",
    ";EXT=",
    ";isub=",
    ":",
    "tel:",
    "ext",
    "ext.",
    " ext ",
    "Ext:",
    "extn",
    "xtn",
    "e xt",
    "extension",
    "extensión",
    "extensio\u{301}n",
    "EXTENSIÓN",
    "exten\u{17F}ion",
    "xt",
    "ensi",
    "n",
    "int",
    "INT ",
    "ｉｎｔ",
    "ｅｘｔ",
    "Ｅｘｔｎ",
    "ｘ",
    "доб",
    "Доб.",
    "\u{1C81}об",
    "anexo",
    "a",
    "abc",
    "FLOWERS",
    "k\u{212A}",
    "\u{A0}",
    "\u{AD}",
    "\u{3000}",
    "\t",
    "\n",
    "٣",
    "９",
    "๒",
    "\u{2010}",
];

#[test]
fn what_people_write_around_a_number_is_read_as_libphonenumber_reads_it() {
    let mut dice = Dice(3);
    let mut comparison = Comparison::default();
    for round in 0..150_000 {
        let mut text = String::new();
        if round % 2 == 0 {
            text.push_str(dice.pick(&[
                "0912345678",
                "+84912345678",
                "912 345 678",
                "0243 825 1234",
            ]));
        }
        for _ in 0..=dice.roll(9) {
            text.push_str(dice.pick(&PIECES));
        }
        let region = dice.pick(&["VN", "VN", "VN", "US", "GB", "AR", "BR", "JP"]);
        if !text.contains(";phone-context") && text.chars().count() <= 100 {
            comparison.compare(&text, region);
        }
    }
    comparison.finish(140_000, 7_000);
}

/// Theirs keeps a character at the end that its version of Unicode does not know, as if it were a
/// letter, and finds no number; the original cuts off what is no letter and no digit, and so do we.
fn is_unknown_to_theirs(c: char, text: &str) -> bool {
    !c.is_alphanumeric() && theirs(text, "VN") == Err("no number")
}

#[test]
fn every_character_is_taken_as_libphonenumber_takes_it() {
    let mut comparison = Comparison::default();
    let few_ideographs = (0..0x3500).chain(0x9F00..0xAD00).chain(0xD700..0x1_0000);
    for c in few_ideographs
        .chain(0x1_0000..0x1_1D00)
        .chain(0x1_D000..0x1_FC00)
    {
        let Some(c) = char::from_u32(c) else { continue };
        let behind = format!("0912345678{c}");
        if !is_unknown_to_theirs(c, &behind) {
            comparison.compare(&behind, "VN");
        }
        comparison.compare(&format!("{c}912345678"), "VN");
        comparison.compare(&format!("091{c}2345678{c}1"), "VN");
    }
    comparison.finish(100_000, 1_000);
}

#[test]
fn mobile_numbers_of_vietnam_are_read_as_libphonenumber_reads_them() {
    let mut dice = Dice(4);
    let mut comparison = Comparison::default();
    let mut short = 0;
    for _ in 0..40_000 {
        let digits = format!("{:09}", dice.roll(1_000_000_000));
        let (a, b) = digits.split_at(dice.roll(8) + 1);
        let before = dice.pick(&["0", "0", "+84", "84", "0084", "+84 ", "(0)", "", "+840"]);
        let between = dice.pick(&["", "", " ", ".", "-", " - "]);
        let text = format!("{before}{a}{between}{b}");
        short += usize::from(plain_mobile(&text).is_some());
        comparison.compare(&text, "VN");
    }
    assert!(short > 4_000, "only {short} went the short way");
    comparison.finish(40_000, 10_000);
}
