//! Hides what looks like personal data in free text: e-mail addresses, phone numbers, accounts.
//! Rather too much than too little. UUIDs and the ids of stream entries stay readable: operators search for them.

use super::{HIDDEN, keep_end, mask_email};

/// Fewest digits in a run that make it personal.
const DIGITS_MIN: usize = 6;

/// How the message of code 300 begins; all the rest of it is what somebody wrote into the field.
const EMAIL_MESSAGE: &str = "Invalid email format: ";

/// Hides e-mail addresses, and every run of six or more digits, with whatever separates them.
pub fn mask_message(message: &str) -> String {
    if let Some(email) = message.strip_prefix(EMAIL_MESSAGE) {
        return format!("{EMAIL_MESSAGE}{}", mask_email(email));
    }
    let mut masked = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(first) = rest.chars().next() {
        let length = if is_word(first) {
            word_length(rest)
        } else {
            first.len_utf8()
        };
        let (word, after) = rest.split_at(length);
        push_masked(word, &mut masked);
        rest = after;
    }
    masked
}

/// Bytes of the longest run that could be one address or number. Blanks belong to it between two digits.
fn word_length(text: &str) -> usize {
    let mut end = 0;
    let mut digit = false;
    for (at, c) in text.char_indices() {
        let next = text
            .get(at + c.len_utf8()..)
            .and_then(|after| after.chars().next());
        let joins = digit && matches!(c, ' ' | '\u{a0}') && next.is_some_and(starts_number);
        if !is_word(c) && !joins {
            break;
        }
        digit = c.is_numeric() || c == ')';
        end = at + c.len_utf8();
    }
    end
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric()
        || matches!(
            c,
            '@' | '.'
                | '_'
                | '-'
                | '+'
                | '%'
                | '('
                | ')'
                | '/'
                | '\''
                | '!'
                | '#'
                | '$'
                | '&'
                | '*'
        )
}

fn starts_number(c: char) -> bool {
    c.is_numeric() || matches!(c, '(' | '+')
}

fn push_masked(word: &str, masked: &mut String) {
    if word.contains('@') {
        masked.push_str(&mask_email(word));
    } else if is_id(word) || word.chars().filter(|c| c.is_numeric()).count() < DIGITS_MIN {
        masked.push_str(word);
    } else if word.chars().any(char::is_alphabetic) {
        masked.push_str(HIDDEN);
    } else {
        let trimmed = word.trim_end_matches(|c: char| !c.is_numeric());
        masked.push_str(&keep_end(trimmed, 2));
        masked.push_str(word.get(trimmed.len()..).unwrap_or_default());
    }
}

/// A UUID, or the id of a stream entry: thirteen digits, a hyphen, a counter.
fn is_id(word: &str) -> bool {
    let word = word.trim_matches(|c| matches!(c, '(' | ')' | '.' | '\''));
    let entry = word.split_once('-').is_some_and(|(time, counter)| {
        time.len() == 13
            && !counter.is_empty()
            && counter.len() < 6
            && is_digits(time)
            && is_digits(counter)
    });
    entry || (word.len() == 36 && uuid::Uuid::try_parse(word).is_ok())
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}
