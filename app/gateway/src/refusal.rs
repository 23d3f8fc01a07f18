//! What no service gets to see: heads that hyper refuses, and connections beyond the cap.
//!
//! hyper answers by itself, with a status and an empty body. Such an answer goes out in the form
//! that all others have: `problem+json` with a code, and an id of its own.

use axum::http::{HeaderMap, StatusCode};

use crate::problem::ApiError;
use crate::request_id;

/// More than hyper's own answers have.
const BARE_MAX_BYTES: usize = 256;

/// What goes out in place of `written`, when that is an answer of hyper's own.
pub(crate) fn in_place_of(written: &[u8]) -> Option<Vec<u8>> {
    if !written.starts_with(b"HTTP/1.1 4") || written.len() > BARE_MAX_BYTES {
        return None;
    }
    let text = std::str::from_utf8(written).ok()?;
    let is_bare = text.ends_with("\r\n\r\n") && text.contains("\r\ncontent-length: 0\r\n");
    // Every answer of the service has its id.
    if !is_bare || text.contains(request_id::HEADER.as_str()) {
        return None;
    }
    let status = StatusCode::from_bytes(written.get(9..12)?).ok()?;
    let date = text.lines().find(|line| line.starts_with("date: "));
    let date = date.map(|line| format!("{line}\r\n")).unwrap_or_default();
    Some(whole(status, &error(status)?, &date))
}

/// What a connection beyond the cap gets to read, whatever it may ask.
pub(crate) fn full() -> Vec<u8> {
    let error = ApiError::unavailable(
        "http.too_many_connections",
        "as many connections are open as are served at once; come again",
    );
    whole(
        StatusCode::SERVICE_UNAVAILABLE,
        &error,
        "retry-after: 1\r\n",
    )
}

/// An answer with its head; `more` are whole header lines.
fn whole(status: StatusCode, error: &ApiError, more: &str) -> Vec<u8> {
    let body = error.body();
    let id = request_id::of(&HeaderMap::new());
    let id = id.to_str().unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         connection: close\r\nx-request-id: {id}\r\n{more}\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}

fn error(status: StatusCode) -> Option<ApiError> {
    let (code, detail) = match status {
        StatusCode::BAD_REQUEST => (
            "http.malformed",
            "this is not a well-formed HTTP request (RFC 9112): look at its request line, \
             headers, length and host",
        ),
        StatusCode::URI_TOO_LONG => (
            "http.uri_too_long",
            "the target is too long; send what is long in a body",
        ),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
            "http.head_too_large",
            "the request line and the headers are too long or too many; send fewer than 100 \
             headers, and what is long in a body",
        ),
        _ => return None,
    };
    Some(ApiError::new(status, code, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\
                        date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n";

    #[test]
    fn an_empty_refusal_gets_our_form() {
        let text = String::from_utf8(in_place_of(BARE.as_bytes()).unwrap()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
        assert!(head.contains("x-request-id: ") && head.contains("date: Thu"));
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["code"], "http.malformed");
    }

    #[test]
    fn what_the_service_answers_stays_as_it_is() {
        let ours = BARE.replace("date: ", "x-request-id: 1\r\ndate: ");
        assert_eq!(in_place_of(ours.as_bytes()), None);
        assert_eq!(in_place_of(BARE.replace("400", "404").as_bytes()), None);
        assert_eq!(in_place_of(b"HTTP/1.1 200 OK\r\n\r\n"), None);
    }
}
