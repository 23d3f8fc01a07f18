//! Checks a bank account: the two rules, then what can be known without asking the bank.
//! Vietnamese accounts have no public check digits, so most of this is hints; IBANs are checked fully.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::iban;
use crate::bank::{self, Bank};
use crate::code;
use crate::finding::Params;
use crate::item::Field;
use crate::phone::Region;
use crate::verdict::Verdict;

/// The rule's own minimum, in characters of the raw text.
const CHARS_MIN: usize = 8;
/// Fewest and most characters of an account that is no IBAN, without separators.
const ACCOUNT_MIN: usize = 6;
const ACCOUNT_MAX: usize = 19;
/// Longest IBAN of any country.
const IBAN_MAX: usize = 34;
/// Longer texts are not read at all; no account with its bank's name is written with more characters.
const TEXT_MAX_BYTES: usize = 256;

/// Words around an account number that say nothing, folded.
const NOISE: &[&str] = &[
    "SOTAIKHOAN",
    "TAIKHOAN",
    "NGANHANG",
    "ACCOUNT",
    "IBAN",
    "SOTK",
    "BANK",
    "STK",
    "ACC",
    "TK",
    "NH",
    "NO",
];

/// Checks the field, and puts the account in its normal form.
pub(super) fn check(field: Field<'_>, hint: Option<&str>, region: Region, verdict: &mut Verdict) {
    match field {
        Field::Absent | Field::Text("") => verdict.note(&code::BANK_REQUIRED),
        Field::WrongType(kind) => {
            verdict.add(
                &code::BANK_WRONG_TYPE,
                Params::default().text("got", kind.word()),
            );
        }
        Field::Text(raw) => present(raw, hint, region, verdict),
    }
}

/// The normal form of an account, if it can be one.
pub(super) fn key(raw: &str) -> Option<String> {
    Account::read(raw).normal()
}

fn present(raw: &str, hint: Option<&str>, region: Region, verdict: &mut Verdict) {
    let mut account = Account::read(raw);
    let is_iban = account.country().is_some();
    let named = if is_iban {
        Named::Nothing
    } else {
        account.named(hint)
    };
    if let Named::Known(bank) = named {
        account.bank = Some(bank);
    }
    let chars = raw.chars().count();
    if chars < CHARS_MIN {
        verdict.tell(
            &code::BANK_UNDER_EIGHT,
            format!("Bank account too short: {chars} chars, minimum {CHARS_MIN}"),
            Params::default()
                .number("got", chars)
                .number("min", CHARS_MIN),
        );
    } else {
        account.characters(verdict);
        if matches!(named, Named::Unknown) {
            verdict.note(&code::BANK_UNKNOWN);
        }
        account.hints(raw, region, verdict);
    }
    if let Some(bank) = account.bank {
        verdict.normalized.bank_bin = Some(bank.bin.into());
        verdict.normalized.bank_name = Some(bank.name.into());
    }
    verdict.normalized.bank_account = account.normal();
}

/// What is known of the bank.
#[derive(Clone, Copy)]
enum Named {
    Nothing,
    Known(&'static Bank),
    Unknown,
}

/// An account number without its separators.
struct Account {
    /// Upper-case ASCII letters and digits.
    text: String,
    /// Something else was in it.
    foreign: bool,
    /// The bank that the text itself names.
    bank: Option<&'static Bank>,
}

impl Account {
    fn read(raw: &str) -> Self {
        if raw.len() > TEXT_MAX_BYTES {
            let text = raw.chars().filter(char::is_ascii_alphanumeric).collect();
            return Self {
                text,
                foreign: false,
                bank: None,
            };
        }
        let mut account = Self {
            text: String::with_capacity(raw.len()),
            foreign: false,
            bank: None,
        };
        let mut letters = false;
        for c in raw.chars().map(narrow) {
            if c.is_ascii_alphanumeric() {
                account.text.push(c.to_ascii_uppercase());
                letters |= c.is_ascii_alphabetic();
            } else if !is_separator(c) {
                account.foreign = true;
                letters |= c.is_alphabetic();
            }
        }
        if letters && account.country().is_none() {
            account.without_words(raw);
        }
        account
    }

    /// Takes the name of a bank, and words such as `STK`, out of the text.
    fn without_words(&mut self, raw: &str) {
        let folded = fold(raw);
        if let Some(iban) = folded
            .strip_prefix("IBAN")
            .filter(|rest| iban::country(rest).is_some())
        {
            self.text = iban.to_owned();
            return;
        }
        let words: String = folded.chars().filter(char::is_ascii_alphabetic).collect();
        let digits: String = folded.chars().filter(char::is_ascii_digit).collect();
        let name = without_noise(&words);
        self.bank = bank::by_alias(name).or_else(|| bank::by_alias(&words));
        if !digits.is_empty() && (self.bank.is_some() || name.is_empty()) {
            self.foreign = raw
                .chars()
                .map(narrow)
                .any(|c| !c.is_alphanumeric() && !is_separator(c));
            self.text = digits;
        }
    }

    fn normal(self) -> Option<String> {
        let fits = (1..=IBAN_MAX).contains(&self.text.len());
        (fits && !self.foreign).then_some(self.text)
    }

    fn country(&self) -> Option<&str> {
        if self.foreign {
            None
        } else {
            iban::country(&self.text)
        }
    }

    fn is_digits(&self) -> bool {
        self.text.bytes().all(|byte| byte.is_ascii_digit())
    }

    /// The bank, from the text, from a card number, or from the record's hint.
    fn named(&self, hint: Option<&str>) -> Named {
        if let Some(bank) = self.bank {
            return Named::Known(bank);
        }
        if self.is_card() {
            let bin = self.text.get(..6).unwrap_or_default();
            return bank::by_bin(bin).map_or(Named::Unknown, Named::Known);
        }
        let Some(hint) = hint.map(fold).filter(|hint| !hint.is_empty()) else {
            return Named::Nothing;
        };
        bank::by_bin(&hint)
            .or_else(|| bank::by_alias(without_noise(&hint)))
            .or_else(|| bank::by_alias(&hint))
            .map_or(Named::Unknown, Named::Known)
    }

    /// A number of the national card scheme, which begins with the bank's BIN.
    fn is_card(&self) -> bool {
        matches!(self.text.len(), 16 | 19) && self.text.starts_with("9704") && self.is_digits()
    }

    /// What makes the text no account number.
    fn characters(&self, verdict: &mut Verdict) {
        if self.foreign {
            return verdict.note(&code::BANK_CHARACTERS);
        }
        let got = self.text.len();
        if let Some(country) = self.country() {
            return self.as_iban(country, verdict);
        }
        if got > ACCOUNT_MAX {
            let params = Params::default()
                .number("got", got)
                .number("max", ACCOUNT_MAX);
            verdict.add(&code::BANK_TOO_LONG, params);
        } else if got < ACCOUNT_MIN {
            let params = Params::default()
                .number("got", got)
                .number("min", ACCOUNT_MIN);
            verdict.add(&code::BANK_TOO_SHORT, params);
        }
    }

    fn as_iban(&self, country: &str, verdict: &mut Verdict) {
        let params = Params::default().text("country", country.to_owned());
        match iban::check(&self.text) {
            Ok(()) => {}
            Err(iban::Fault::Checksum) => verdict.add(&code::BANK_IBAN_CHECKSUM, params),
            Err(iban::Fault::Form { expected }) => {
                let params = params
                    .number("got", self.text.len())
                    .number("expected", expected);
                verdict.add(&code::BANK_IBAN_FORM, params);
            }
        }
    }

    /// What is merely unusual.
    fn hints(&self, raw: &str, region: Region, verdict: &mut Verdict) {
        let got = self.text.len();
        if let Some(bank) = self
            .bank
            .filter(|bank| self.is_digits() && !self.is_card() && !bank.has_length(got))
        {
            verdict.add(
                &code::BANK_LENGTH,
                Params::default().text("bin", bank.bin).number("got", got),
            );
        }
        if region.is_vietnam() && is_mobile(&self.text) {
            verdict.note(&code::BANK_LIKE_PHONE);
        }
        if !self.foreign && self.text != raw {
            verdict.note(&code::BANK_NORMALISED);
        }
    }
}

/// Ten digits with a mobile prefix of Vietnam. Many banks offer such accounts, so it is only a hint.
fn is_mobile(text: &str) -> bool {
    let prefixes = ["03", "05", "07", "08", "09"];
    text.len() == 10
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && prefixes.iter().any(|prefix| text.starts_with(prefix))
}

fn is_separator(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '-' | '.' | '_' | '/' | ',' | ':' | '(' | ')' | '#' | '\u{2010}'..='\u{2015}'
        )
}

/// Full-width characters as plain ones.
fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        _ => c,
    }
}

/// Unaccented upper-case ASCII letters and digits; everything else is left out.
fn fold(text: &str) -> String {
    text.chars()
        .map(narrow)
        .nfd()
        .filter(|c| !is_combining_mark(*c))
        .map(|c| {
            if matches!(c, 'đ' | 'Đ') {
                'D'
            } else {
                c.to_ascii_uppercase()
            }
        })
        .filter(char::is_ascii_alphanumeric)
        .collect()
}

fn without_noise(words: &str) -> &str {
    let mut rest = words;
    while let Some(shorter) = NOISE.iter().find_map(|noise| rest.strip_prefix(noise)) {
        rest = shorter;
    }
    rest
}
