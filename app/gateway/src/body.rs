//! Reads a request's body: JSON only, of bounded size, in bounded time. What nobody wants to read is
//! thrown away here, so that the next request of the connection is found behind it.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};

use crate::problem::ApiError;
use crate::settings::BodySettings;

/// The body of a refused request is read out when it is announced to be no longer: less work than a
/// new connection, on both sides.
const DISCARD_MAX_BYTES: u64 = 64 * 1024;
/// And within this: the client waits for its refusal meanwhile.
const DISCARD_MAX_TIME: Duration = Duration::from_secs(2);

/// The whole body, which is taken when the reading begins: what is refused before that is left. The
/// announced length is checked before anything is read.
///
/// # Errors
/// 415 for anything but plain JSON, 413 for too much of it, 408 for too slowly, 400 when the
/// client did not end it.
pub(crate) async fn read(
    headers: &HeaderMap,
    unread: &mut Option<Incoming>,
    settings: &BodySettings,
) -> Result<Bytes, ApiError> {
    check_kind(headers)?;
    let announced = announced(headers);
    if announced.is_some_and(|length| length > settings.max_bytes) {
        return Err(too_large(settings.max_bytes));
    }
    let Some(body) = unread.take() else {
        return Ok(Bytes::new());
    };
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

/// Reads a small body out and throws it away. Says whether that was all of it; if not, the next
/// request cannot be found behind it, and the connection has to end.
pub(crate) async fn discard(mut body: Incoming, settings: &BodySettings) -> bool {
    if body
        .size_hint()
        .exact()
        .is_none_or(|length| length > DISCARD_MAX_BYTES)
    {
        return false;
    }
    let all = async {
        while let Some(frame) = body.frame().await {
            if frame.is_err() {
                return false;
            }
        }
        true
    };
    let limit = settings.timeout.min(DISCARD_MAX_TIME);
    tokio::time::timeout(limit, all).await.unwrap_or(false)
}

fn check_kind(headers: &HeaderMap) -> Result<(), ApiError> {
    let unsupported = |code, detail: &'static str| {
        Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            code,
            detail,
        ))
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
        return Err(too_large(max).closing());
    }
    let Some(second) = next(&mut body).await? else {
        return Ok(first);
    };
    let mut whole = BytesMut::with_capacity(announced.max(first.len() + second.len()).min(max));
    whole.extend_from_slice(&first);
    let mut part = Some(second);
    while let Some(bytes) = part {
        if whole.len() + bytes.len() > max {
            return Err(too_large(max).closing());
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
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body.too_large", detail)
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
