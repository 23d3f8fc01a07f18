//! Finds the number in what people write: words around it, brackets and dashes, an extension behind
//! it, letters of a keypad instead of digits.

use unicode_normalization::char::is_combining_mark;

use super::digit;

/// Digits that a number has at least, so that a text may be one; two alone are a short number.
const DIGITS_MIN: usize = 3;
const SHORT_DIGITS: usize = 2;
/// Letters from which on a text is dialled by the letters on the keys.
const KEYPAD_LETTERS_MIN: usize = 3;

/// The part of a text from the first thing that can begin a number, without what ends none.
pub(super) fn candidate(text: &str) -> Option<&str> {
    let start = text.find(|c| is_plus(c) || digit::value(c).is_some())?;
    let text = text.get(start..)?.trim_end_matches(ends_no_number);
    let text = before_second_number(text);
    let text = text.split(";isub=").next().unwrap_or(text);
    (!text.is_empty()).then_some(text)
}

/// Whether the text has the shape of a number, with or without an extension.
pub(super) fn is_viable(text: &str) -> bool {
    if text.len() < SHORT_DIGITS {
        return false;
    }
    let may_have_extension = !is_all_plain(text);
    let mut shape = Shape::default();
    for (at, c) in text.char_indices() {
        let is_behind_number = may_have_extension && shape.can_end();
        if is_behind_number && is_extension(text.get(at..).unwrap_or_default()) {
            return true;
        }
        if !shape.take(c) {
            return false;
        }
    }
    shape.can_end()
}

/// The text before an extension, if it has one.
pub(super) fn before_extension(text: &str) -> Option<&str> {
    if is_all_plain(text) {
        return None;
    }
    let starts = text.char_indices().map(|(at, _)| at);
    let mut rests = starts.filter_map(|at| text.split_at_checked(at));
    let (number, _) = rests.find(|(_, rest)| is_extension(rest))?;
    is_viable(number).then_some(number)
}

/// The digits of a number: those of any script, or those of the keys when it is written in letters.
pub(super) fn digits(text: &str) -> String {
    let letters = text.bytes().filter(u8::is_ascii_alphabetic);
    let mut digits = String::with_capacity(text.len());
    if letters.take(KEYPAD_LETTERS_MIN).count() < KEYPAD_LETTERS_MIN {
        let values = text.chars().filter_map(digit::value);
        digits.extend(values.map(|value| char::from(b'0' + value)));
    } else {
        digits.extend(text.chars().filter_map(key));
    }
    digits
}

/// The text behind the plus signs that it begins with, if it begins with one.
pub(super) fn behind_plus(text: &str) -> Option<&str> {
    text.starts_with(is_plus)
        .then(|| text.trim_start_matches(is_plus))
}

fn is_plus(c: char) -> bool {
    matches!(c, '+' | '\u{FF0B}')
}

/// Everything but letters, numbers and `#` is cut off the end.
fn ends_no_number(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_alphanumeric() && c != '#';
    }
    let is_letter = c.is_alphabetic() && !is_combining_mark(c) && !is_circled(c);
    !is_letter && !c.is_numeric()
}

/// Symbols that count as alphabetic although they are no letters.
fn is_circled(c: char) -> bool {
    matches!(c, '\u{24B6}'..='\u{24E9}' | '\u{1F130}'..='\u{1F149}' | '\u{1F150}'..='\u{1F169}' | '\u{1F170}'..='\u{1F189}')
}

/// `(530) 583-6985 x302/x2303` means two numbers; the first counts.
fn before_second_number(text: &str) -> &str {
    let of_line = |line| before_last_slash_x(line);
    text.split('\n').find_map(of_line).unwrap_or(text)
}

/// The line before its last slash, either way, that only blanks separate from an `x`.
fn before_last_slash_x(line: &str) -> Option<&str> {
    let slashes = line.rmatch_indices(['/', '\\']);
    let mut parts = slashes.filter_map(|(at, _)| line.split_at_checked(at));
    let is_second = |rest: &str| rest[1..].trim_start_matches(' ').starts_with('x');
    parts
        .find(|(_, rest)| is_second(rest))
        .map(|(line, _)| line)
}

/// The digit of the key that holds a letter.
fn key(c: char) -> Option<char> {
    Some(match c.to_ascii_uppercase() {
        c @ '0'..='9' => c,
        'A'..='C' => '2',
        'D'..='F' => '3',
        'G'..='I' => '4',
        'J'..='L' => '5',
        'M'..='O' => '6',
        'P'..='S' => '7',
        'T'..='V' => '8',
        'W'..='Z' => '9',
        _ => return None,
    })
}

/// Whether a text has nothing but digits and what is written between them, and so no extension.
fn is_all_plain(text: &str) -> bool {
    let is_plain = |byte| {
        matches!(
            byte,
            b'0'..=b'9' | b'+' | b' ' | b'-' | b'.' | b'(' | b')' | b'/'
        )
    };
    text.bytes().all(is_plain)
}

/// How far a text follows the shape of a number: plus signs, then three digits with punctuation
/// between them, then letters too; or two digits and nothing else.
#[derive(Default)]
struct Shape {
    digits: usize,
    is_begun: bool,
    has_more: bool,
}

impl Shape {
    /// Takes the next character; false when the shape allows it not.
    fn take(&mut self, c: char) -> bool {
        if is_plus(c) {
            self.has_more = true;
            return !self.is_begun;
        }
        self.is_begun = true;
        if digit::value(c).is_some() {
            self.digits += 1;
            return true;
        }
        self.has_more = true;
        is_punctuation(c) || (self.digits >= DIGITS_MIN && is_tail_letter(c))
    }

    fn can_end(&self) -> bool {
        self.digits >= DIGITS_MIN || (self.digits == SHORT_DIGITS && !self.has_more)
    }
}

/// A letter behind the digits, in either case; two letters beyond ASCII are a case of `s` and `k`.
fn is_tail_letter(c: char) -> bool {
    c.is_ascii_alphabetic() || matches!(c, '\u{17F}' | '\u{212A}')
}

fn is_punctuation(c: char) -> bool {
    matches!(
        c,
        '-' | 'x' | 'X' | ' ' | '(' | ')' | '.' | '[' | ']' | '/' | '~' | '*'
            | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{30FC}' | '\u{FF0D}'..='\u{FF0F}'
            | '\u{A0}' | '\u{AD}' | '\u{200B}' | '\u{2060}' | '\u{3000}'
            | '\u{FF08}' | '\u{FF09}' | '\u{FF3B}' | '\u{FF3D}' | '\u{2053}' | '\u{223C}'
    )
}

/// Whether the text is an extension and nothing else. The clearer the word for it, the more digits.
fn is_extension(text: &str) -> bool {
    // Each way to write one begins with a word or a sign.
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return false;
    }
    let behind_blanks = text.trim_start_matches(is_blank);
    let behind_commas = text.trim_start_matches(|c| is_blank(c) || c == ',');
    rfc3966(text)
        || explicit(behind_commas).is_some_and(|rest| ends_with_digits(rest, 20))
        || ambiguous(behind_commas).is_some_and(|rest| ends_with_digits(rest, 9))
        || american(text)
        || dialled(behind_blanks).is_some_and(|rest| ends_with_digits(rest, 15))
        || paused(behind_blanks).is_some_and(|rest| ends_with_digits(rest, 9))
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\u{A0}' | '\t')
}

/// `;ext=12`, as in links.
fn rfc3966(text: &str) -> bool {
    let rest = words(text, ";ext=");
    rest.is_some_and(|rest| behind_digits(rest, 20) == Some(""))
}

/// `- 503#`.
fn american(text: &str) -> bool {
    let rest = text.trim_start_matches(['-', ' ']);
    rest.len() < text.len() && behind_digits(rest, 6) == Some("#")
}

/// `,,12` or `;12`, which phones dial once they are through.
fn dialled(text: &str) -> Option<&str> {
    text.strip_prefix(",,").or_else(|| text.strip_prefix(';'))
}

/// `,12`.
fn paused(text: &str) -> Option<&str> {
    text.starts_with(',').then(|| text.trim_start_matches(','))
}

/// `ext`, `extension`, `xtn`, `extensión`, the same in full width, `доб`, `anexo`.
fn explicit(text: &str) -> Option<&str> {
    let latin = |text| {
        let rest = words(words(text, "e").unwrap_or(text), "xt")?;
        let rest = extension_of_ext(rest).unwrap_or(rest);
        Some(words(rest, "n").unwrap_or(rest))
    };
    let wide = |text| {
        let rest = words(words(text, "ｅ").unwrap_or(text), "ｘｔ")?;
        Some(words(rest, "ｎ").unwrap_or(rest))
    };
    latin(text)
        .or_else(|| wide(text))
        .or_else(|| words(text, "доб"))
        .or_else(|| words(text, "anexo"))
}

/// The middle of `extension`, the o with or without an accent.
fn extension_of_ext(text: &str) -> Option<&str> {
    let rest = words(text, "ensi")?;
    words(rest, "ó").or_else(|| {
        let rest = words(rest, "o")?;
        Some(rest.strip_prefix('\u{301}').unwrap_or(rest))
    })
}

/// `x`, `#`, `~`, `int`: may mean something else.
fn ambiguous(text: &str) -> Option<&str> {
    let labels = ["x", "ｘ", "#", "＃", "~", "～", "int", "ｉｎｔ"];
    labels.iter().find_map(|label| words(text, label))
}

/// The text behind a word, whatever the case of its letters.
fn words<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let mut rest = text.chars();
    for expected in word.chars() {
        (lower(rest.next()?) == expected).then_some(())?;
    }
    Some(rest.as_str())
}

/// The small letter, where it is one character. Three letters have another capital than their own.
fn lower(c: char) -> char {
    match c {
        '\u{17F}' => 's',
        '\u{1C81}' => 'д',
        '\u{1C82}' => 'о',
        _ => {
            let mut lower = c.to_lowercase();
            match (lower.next(), lower.next()) {
                (Some(one), None) => one,
                _ => c,
            }
        }
    }
}

/// Behind a label: a colon or dot, blanks, and at most so many digits, then perhaps a `#`.
fn ends_with_digits(text: &str, max: usize) -> bool {
    let text = text
        .strip_prefix([':', '.', '\u{FF0E}'])
        .unwrap_or(text)
        .trim_start_matches(|c| is_blank(c) || matches!(c, ',' | '-'));
    matches!(behind_digits(text, max), Some("" | "#"))
}

/// What follows one to so many digits.
fn behind_digits(text: &str, max: usize) -> Option<&str> {
    let rest = text.trim_start_matches(|c| digit::value(c).is_some());
    let count = text[..text.len() - rest.len()].chars().count();
    (1..=max).contains(&count).then_some(rest)
}
