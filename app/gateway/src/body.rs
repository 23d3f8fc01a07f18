//! Reads a request's body: JSON only, of bounded size, in bounded time.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::problem::ApiError;
use crate::settings::BodySettings;

/// The whole body. The announced length is checked before anything is read.
///
/// # Errors
/// 415 for anything but plain JSON, 413 for too much of it, 408 for too slowly, 400 when the
/// client did not end it.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Incoming,
    settings: &BodySettings,
) -> Result<Bytes, ApiError> {
    check_kind(headers)?;
    let announced = announced(headers);
    if announced.is_some_and(|length| length > settings.max_bytes) {
        return Err(too_large(settings.max_bytes));
    }
    let mut whole = pin!(collect(body, announced.unwrap_or(0), settings.max_bytes));
    // The timer is only made when the body is not there yet.
    if let Poll::Ready(outcome) = futures_util::poll!(whole.as_mut()) {
        return outcome;
    }
    match tokio::time::timeout(settings.timeout, whole).await {
        Ok(outcome) => outcome,
        Err(_) => Err(too_slow(settings.timeout)),
    }
}

fn check_kind(headers: &HeaderMap) -> Result<(), ApiError> {
    let unsupported = |code, detail: &'static str| {
        Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, code, detail).closing())
    };
    let coding = headers
        .get(header::CONTENT_ENCODING)
        .map(|value| value.as_bytes());
    if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
        return unsupported("body.encoding", "send the body without a content encoding");
    }
    let kind = headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.as_bytes());
    match kind {
        Some(kind) if is_json(kind) => Ok(()),
        _ => unsupported(
            "body.type",
            "send JSON, with the content type application/json",
        ),
    }
}

/// `application/json`, with no charset or with UTF-8, which it always is.
fn is_json(kind: &[u8]) -> bool {
    let mut parts = kind.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let named = parts
        .next()
        .is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/json"));
    named
        && parts.all(|parameter| {
            !parameter.to_ascii_lowercase().starts_with(b"charset=")
                || parameter.eq_ignore_ascii_case(b"charset=utf-8")
                || parameter.eq_ignore_ascii_case(b"charset=\"utf-8\"")
        })
}

fn announced(headers: &HeaderMap) -> Option<usize> {
    let text = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    // A number that does not fit is too large as well.
    Some(text.parse().unwrap_or(usize::MAX))
}

async fn collect(mut body: Incoming, announced: usize, max: usize) -> Result<Bytes, ApiError> {
    let Some(first) = next(&mut body).await? else {
        return Ok(Bytes::new());
    };
    if first.len() > max {
        return Err(too_large(max));
    }
    let Some(second) = next(&mut body).await? else {
        return Ok(first);
    };
    let mut whole = BytesMut::with_capacity(announced.max(first.len() + second.len()).min(max));
    whole.extend_from_slice(&first);
    let mut part = Some(second);
    while let Some(bytes) = part {
        if whole.len() + bytes.len() > max {
            return Err(too_large(max));
        }
        whole.extend_from_slice(&bytes);
        part = next(&mut body).await?;
    }
    Ok(whole.freeze())
}

/// The next bytes; trailers are passed over.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, ApiError> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            ApiError::bad_request("body.incomplete", "the body did not arrive whole").closing()
        })?;
        if let Ok(bytes) = frame.into_data() {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

fn too_large(max: usize) -> ApiError {
    let detail = format!("the body may have {max} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body.too_large", detail).closing()
}

fn too_slow(limit: Duration) -> ApiError {
    let detail = format!("the body did not arrive within {} s", limit.as_secs_f64());
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "body.too_slow", detail).closing()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_from_everything_else() {
        let good = [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;profile=x",
            "application/json; charset=\"utf-8\"",
        ];
        let bad = [
            "",
            "text/plain",
            "application/json-patch",
            "application/json;charset=utf-16",
        ];
        assert!(good.iter().all(|kind| is_json(kind.as_bytes())));
        assert!(!bad.iter().any(|kind| is_json(kind.as_bytes())));
    }
}
