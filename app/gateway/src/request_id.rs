//! `X-Request-Id`: the client's own when it is harmless, else a new one; on every response.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use ratebox_kit::id;
use uuid::Uuid;

/// The header, in and out.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id of a client that is taken.
const LENGTH_MAX: usize = 128;

/// The id of this HTTP request. (The id of an accepted validation is another one.)
pub(crate) fn of(headers: &HeaderMap) -> HeaderValue {
    match headers.get(HEADER) {
        Some(given) if is_harmless(given.as_bytes()) => given.clone(),
        _ => {
            let mut text = Uuid::encode_buffer();
            let text = id::new().hyphenated().encode_lower(&mut text);
            HeaderValue::from_str(text).expect("a UUID is a header value")
        }
    }
}

fn is_harmless(id: &[u8]) -> bool {
    (1..=LENGTH_MAX).contains(&id.len())
        && id
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(given: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_str(given).unwrap());
        of(&headers).to_str().unwrap().to_owned()
    }

    #[test]
    fn a_harmless_id_is_echoed_and_another_is_replaced() {
        assert_eq!(answered("order-42/3"), "order-42/3");
        for given in ["", "a b", "{\"level\":\"x\"}", &"x".repeat(129)] {
            assert_eq!(answered(given).len(), 36, "{given}");
        }
    }
}
