//! Hides every value of a JSON text and keeps its structure, so that an operator sees what kind of record it is.

use super::{HIDDEN, mask_bank_account, mask_email, mask_message, mask_name, mask_phone};

/// The text with every string and number masked: phone, bank account, e-mail and name in their own way, anything
/// else completely. Keys, `true`, `false` and `null` stay. What is no JSON is masked as free text.
pub fn mask_json(json: &str) -> String {
    if serde_json::from_str::<serde::de::IgnoredAny>(json).is_err() {
        return mask_message(json);
    }
    let mut masked = String::with_capacity(json.len());
    let mut key = String::new();
    let mut rest = json;
    while let Some(first) = rest.chars().next() {
        let length = token_length(rest, first);
        let (token, after) = rest.split_at(length);
        match first {
            '"' if after.trim_start().starts_with(':') => {
                key = decoded(token);
                push_string(&mask_message(&key), &mut masked);
            }
            '"' => push_string(&mask_value(&key, &decoded(token)), &mut masked),
            '-' | '0'..='9' => push_string(&mask_value(&key, token), &mut masked),
            _ => masked.push_str(token),
        }
        rest = after;
    }
    masked
}

/// Bytes of the string, number or other character that a valid JSON text goes on with.
fn token_length(rest: &str, first: char) -> usize {
    match first {
        '"' => {
            let mut escaped = false;
            let end = rest.bytes().skip(1).position(|byte| {
                let ends = byte == b'"' && !escaped;
                escaped = byte == b'\\' && !escaped;
                ends
            });
            end.map_or(rest.len(), |at| at + 2)
        }
        '-' | '0'..='9' => {
            let number = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
            rest.find(|c| !number(c)).unwrap_or(rest.len())
        }
        other => other.len_utf8(),
    }
}

fn decoded(token: &str) -> String {
    serde_json::from_str(token).unwrap_or_default()
}

fn push_string(text: &str, masked: &mut String) {
    masked.push_str(&serde_json::Value::from(text).to_string());
}

fn mask_value(key: &str, value: &str) -> String {
    match key {
        _ if value.is_empty() => String::new(),
        "phone" => mask_phone(value),
        "bank_account" => mask_bank_account(value),
        "email" => mask_email(value),
        "name" => mask_name(value),
        _ => HIDDEN.to_owned(),
    }
}
