//! The bodies of orders and questions: an object of the names that the path takes, and no others.

use bytes::Bytes;
use serde::Deserialize;

use crate::problem::ApiError;

/// Reads a body whose texts are kept, or looked for in the store: PostgreSQL takes none that holds
/// U+0000, and an order is refused before half of it is done.
///
/// # Errors
/// 400 when it is not JSON, 422 when it is not what the path takes.
pub(super) fn body<'a, T: Deserialize<'a>>(bytes: &'a Bytes) -> Result<T, ApiError> {
    let body = body_of_any_text(bytes)?;
    if holds_nul(bytes) {
        return Err(ApiError::unprocessable(
            "json.nul_character",
            "a string holds the character U+0000, which no store of ours can keep",
        ));
    }
    Ok(body)
}

/// Reads a body, which is an object: serde would fill a struct from the places of an array, too.
///
/// # Errors
/// As [`body`].
pub(super) fn body_of_any_text<'a, T: Deserialize<'a>>(bytes: &'a Bytes) -> Result<T, ApiError> {
    let is_array = bytes.trim_ascii_start().starts_with(b"[");
    serde_json::from_slice(bytes)
        .map_err(|error| {
            // Its text may quote the body.
            if error.is_data() {
                other_body()
            } else {
                ApiError::bad_request("json.malformed", "the body is not JSON")
            }
        })
        .and_then(|body| {
            if is_array {
                Err(other_body())
            } else {
                Ok(body)
            }
        })
}

pub(super) fn other_body() -> ApiError {
    invalid("the body is not what this path takes; see /openapi.json")
}

pub(super) fn invalid(detail: &'static str) -> ApiError {
    ApiError::unprocessable("body.invalid", detail)
}

/// Whether a text in this JSON holds U+0000, which can be written in one way only. A backslash stands
/// in texts alone.
fn holds_nul(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        let escaped = rest.get(at + 1..).unwrap_or_default();
        if escaped.starts_with(b"u0000") {
            return true;
        }
        // What is escaped may be a backslash itself.
        rest = escaped.get(1..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u0000_is_found_wherever_a_text_holds_it() {
        for held in [
            r#"{"a":"\u0000"}"#,
            r#"{"a\u0000":1}"#,
            r#"{"a":["x",{"b":"\\\u0000"}]}"#,
            r#"{"a":"\n\"\u0000"}"#,
        ] {
            assert!(holds_nul(held.as_bytes()), "{held}");
        }
        for free in [
            "",
            r#"{"a":"\\u0000"}"#,
            r#"{"a":"\u0001\u00010"}"#,
            r#"{"a":"u0000","b":"\\\\u0000"}"#,
            "\\",
        ] {
            assert!(!holds_nul(free.as_bytes()), "{free}");
        }
    }
}
