//! Telephone numbers: what a text says under the numbering plans of the world. The plans are those
//! of Google's libphonenumber, in `phone/plans.txt`; the answers are those that it gives, which a
//! test compares over hundreds of thousands of texts. A library of our own, because the patterns of
//! others took 40 MB in every worker and a fifth of the time of a verdict.

mod automata;
mod digit;
#[cfg(test)]
mod oracle;
mod parse;
mod plan;
mod plans;
mod prefix;
mod text;

pub(crate) use plan::Kind;

use std::fmt::Write as _;

use parse::Refused;
use plan::Length;

/// Longer texts are not read: no number with its extension is written with more characters.
const CHARS_MAX: usize = 100;
/// Country code of Vietnam.
pub(crate) const VIETNAM: u16 = 84;

/// A region with a numbering plan.
#[derive(Clone, Copy)]
pub(crate) struct Region(&'static plans::Region);

impl Region {
    /// A region by its two letters, in either case.
    pub(crate) fn new(letters: &str) -> Option<Self> {
        let letters = letters.to_ascii_uppercase();
        let is_country = letters.bytes().all(|byte| byte.is_ascii_uppercase());
        plans::by_letters(&letters).filter(|_| is_country).map(Self)
    }

    /// Where most records come from.
    pub(crate) fn vietnam() -> Self {
        Self(plans::main_of(VIETNAM).expect("the file of plans holds Vietnam"))
    }

    /// Whether numbers without a country code are Vietnamese.
    pub(crate) fn is_vietnam(self) -> bool {
        self.calling_code() == VIETNAM
    }

    pub(crate) fn calling_code(self) -> u16 {
        self.0.calling_code
    }
}

impl PartialEq for Region {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for Region {}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Region({})", self.0.letters)
    }
}

/// A number, as it is dialled from abroad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) calling_code: u16,
    /// Digits behind the calling code; zeros at the beginning belong to it.
    pub(crate) national: String,
    pub(crate) has_extension: bool,
}

impl Number {
    /// The normal form.
    pub(crate) fn e164(&self) -> String {
        let mut text = String::with_capacity("+888".len() + self.national.len());
        write!(text, "+{}{}", self.calling_code, self.national).expect("memory takes all texts");
        text
    }
}

/// What the numbering plans say about a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reading {
    /// A number of a possible length, with its kind when it is in use.
    Possible(Number, Option<Kind>),
    NotANumber,
    Unassigned,
    TooShort,
    TooLong,
}

/// Reads a text as a number of the region, or of the country that it names.
pub(crate) fn read(raw: &str, region: Region) -> Reading {
    if raw.len() > CHARS_MAX && raw.chars().nth(CHARS_MAX).is_some() {
        return Reading::TooLong;
    }
    // RFC 3966 parameters: nobody writes them by hand.
    if raw.contains(';') && raw.contains(";phone-context") {
        return Reading::NotANumber;
    }
    let short = region.is_vietnam().then(|| plain_mobile(raw)).flatten();
    short.unwrap_or_else(|| full(raw, region))
}

/// The short way for what nearly every Vietnamese record holds: ten digits from `0`, or nine behind `+84`, in the
/// mobile ranges. Says what the long way says, for a third of the time; a test compares the two.
fn plain_mobile(raw: &str) -> Option<Reading> {
    let written = raw.strip_prefix("+84").or_else(|| raw.strip_prefix('0'))?;
    let mut national = String::with_capacity(written.len());
    for c in written.chars() {
        match c {
            '0'..='9' => national.push(c),
            ' ' | '.' | '-' if !national.is_empty() => {}
            _ => return None,
        }
    }
    let is_mobile_shaped = national.len() == 9 && national.starts_with(|c| c >= '3');
    if !is_mobile_shaped || !raw.ends_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let kind = plans::kind(VIETNAM, &national);
    let number = Number {
        calling_code: VIETNAM,
        national,
        has_extension: false,
    };
    (kind == Some(Kind::Mobile)).then_some(Reading::Possible(number, kind))
}

fn full(raw: &str, region: Region) -> Reading {
    let number = match parse::parse(raw, region.0) {
        Ok(number) => number,
        Err(Refused::NotANumber) => return Reading::NotANumber,
        Err(Refused::NoCountry) => return Reading::Unassigned,
        Err(Refused::TooShort) => return Reading::TooShort,
        Err(Refused::TooLong) => return Reading::TooLong,
    };
    let kind = plans::kind(number.calling_code, &number.national);
    if kind.is_some() {
        return Reading::Possible(number, kind);
    }
    let Some(main) = plans::main_of(number.calling_code) else {
        return Reading::Unassigned;
    };
    match main.plan().length(number.national.len()) {
        Length::Possible => Reading::Possible(number, kind),
        Length::LocalOnly | Length::TooShort => Reading::TooShort,
        Length::TooLong => Reading::TooLong,
        Length::Invalid => Reading::Unassigned,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_way_says_what_the_long_way_says() {
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
                    assert_eq!(reading, full(&text, Region::vietnam()), "{text}");
                }
            }
        }
        assert!(taken > 4_000, "only {taken} numbers went the short way");
    }
}
