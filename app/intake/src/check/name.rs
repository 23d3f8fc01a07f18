//! Checks a name: the one rule, then what a name should not hold. Surveyed in one pass over its characters.

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use unicode_segmentation::UnicodeSegmentation;

use super::writing;
use crate::code;
use crate::finding::Params;
use crate::item::Field;
use crate::verdict::Verdict;

/// The rule's own minimum, in characters of the raw text.
const CHARS_MIN: usize = 2;
/// Longest name, in what readers see as characters.
const GRAPHEMES_MAX: usize = 200;
/// Fewest equal letters that make a name a placeholder, such as `xxx`.
const SAME_LETTERS_MIN: usize = 3;

/// What people write when they have no name, in lower case.
const PLACEHOLDERS: &[&str] = &[
    "test",
    "tester",
    "testing",
    "n/a",
    "na",
    "none",
    "null",
    "nil",
    "undefined",
    "unknown",
    "anonymous",
    "no name",
    "noname",
    "name",
    "admin",
    "user",
    "abc",
    "abcd",
    "asdf",
    "qwerty",
    "khong co",
    "khong ro",
    "khong biet",
    "an danh",
    "chua ro",
    "chua co",
    "vo danh",
    "không có",
    "không rõ",
    "không biết",
    "không tên",
    "ẩn danh",
    "chưa rõ",
    "chưa có",
    "vô danh",
];

/// Checks the field, and puts the name in its normal form.
pub(super) fn check(field: Field<'_>, verdict: &mut Verdict) {
    match field {
        Field::Absent => {}
        Field::WrongType(kind) => {
            verdict.add(
                &code::NAME_WRONG_TYPE,
                Params::default().text("got", kind.word()),
            );
        }
        Field::Text(raw) => present(raw, verdict),
    }
}

fn present(raw: &str, verdict: &mut Verdict) {
    let seen = Survey::of(raw);
    let normal = seen.normal(raw);
    if seen.chars < CHARS_MIN {
        let params = Params::default()
            .number("got", seen.chars)
            .number("min", CHARS_MIN);
        verdict.add(&code::NAME_UNDER_TWO, params);
    } else {
        noticed(raw, &normal, &seen, verdict);
    }
    if !normal.is_empty() {
        verdict.normalized.name = Some(normal);
    }
}

/// Everything beyond the rule.
fn noticed(raw: &str, normal: &str, seen: &Survey, verdict: &mut Verdict) {
    if seen.control {
        verdict.note(&code::NAME_CONTROL);
    }
    if seen.chars > GRAPHEMES_MAX {
        let graphemes = raw.graphemes(true).count();
        if graphemes > GRAPHEMES_MAX {
            let params = Params::default()
                .number("got", graphemes)
                .number("max", GRAPHEMES_MAX);
            verdict.add(&code::NAME_TOO_LONG, params);
        }
    }
    if !raw.is_ascii() && writing::mixes_scripts(raw) {
        verdict.note(&code::NAME_MIXED_SCRIPT);
    }
    if seen.invisible {
        verdict.note(&code::NAME_INVISIBLE);
    }
    if seen.digits {
        verdict.note(&code::NAME_DIGITS);
    }
    if !seen.letters || is_placeholder(normal) {
        verdict.note(&code::NAME_PLACEHOLDER);
    }
    if normal != raw {
        verdict.note(&code::NAME_NORMALISED);
    }
}

/// What one pass over the characters of a name finds.
#[derive(Default)]
struct Survey {
    chars: usize,
    letters: bool,
    digits: bool,
    control: bool,
    invisible: bool,
    /// White space other than single blanks between words.
    loose_space: bool,
}

impl Survey {
    fn of(raw: &str) -> Self {
        let mut seen = Self::default();
        let mut before = ' ';
        for c in raw.chars() {
            seen.chars += 1;
            seen.look_at(c, before);
            before = c;
        }
        seen.loose_space |= before == ' ';
        seen
    }

    fn look_at(&mut self, c: char, before: char) {
        match c {
            'a'..='z' | 'A'..='Z' => self.letters = true,
            '0'..='9' => self.digits = true,
            ' ' => self.loose_space |= before == ' ',
            '!'..='~' => {}
            _ if c.is_alphabetic() => {
                self.letters |= !writing::is_invisible(c);
                self.invisible |= writing::is_invisible(c);
                self.digits |= c.is_numeric();
            }
            _ if c.is_whitespace() => self.loose_space = true,
            _ if c.is_control() || writing::is_bidi_control(c) => self.control = true,
            '\u{200c}' | '\u{200d}' if writing::needs_joiner(before) => {}
            _ if writing::is_invisible(c) => self.invisible = true,
            _ => self.digits |= c.is_numeric() || writing::is_picture(c),
        }
    }

    /// The name in NFC, with single blanks and without characters that nobody sees.
    fn normal(&self, raw: &str) -> String {
        let clean = !(self.control || self.invisible || self.loose_space);
        if clean && (raw.is_ascii() || is_nfc_quick(raw.chars()) == IsNormalized::Yes) {
            return raw.to_owned();
        }
        let mut normal = String::with_capacity(raw.len());
        let mut blank = false;
        for c in raw.chars().filter(|c| !is_dropped(*c)).nfc() {
            if c.is_whitespace() {
                blank = !normal.is_empty();
                continue;
            }
            if std::mem::take(&mut blank) {
                normal.push(' ');
            }
            normal.push(c);
        }
        normal
    }
}

/// Left out of the normal form. Joiners stay: some scripts are spelled with them.
fn is_dropped(c: char) -> bool {
    let joiner = matches!(c, '\u{200c}' | '\u{200d}');
    let control = c.is_control() && !c.is_whitespace();
    control || writing::is_bidi_control(c) || (writing::is_invisible(c) && !joiner)
}

fn is_placeholder(normal: &str) -> bool {
    let mut letters = normal.chars().map(|c| c.to_ascii_lowercase());
    let first = letters.next();
    if normal.len() >= SAME_LETTERS_MIN && letters.all(|c| Some(c) == first) {
        return true;
    }
    if normal.is_ascii() {
        return PLACEHOLDERS
            .iter()
            .any(|word| word.eq_ignore_ascii_case(normal));
    }
    let longest = PLACEHOLDERS
        .iter()
        .map(|word| word.len())
        .max()
        .unwrap_or_default();
    normal.len() <= longest && PLACEHOLDERS.contains(&normal.to_lowercase().as_str())
}
