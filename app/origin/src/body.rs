//! Reads a request's body: JSON of bounded size. Slow senders are the listener's business.

use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Body;

use crate::problem::Problem;

/// Largest body: the largest write has a few texts of 100 characters.
const BODY_MAX_BYTES: usize = 64 * 1024;

/// The whole body; an absent one is empty.
///
/// # Errors
/// 413, 415, or 400 when it did not end.
pub(crate) async fn read<B>(headers: &HeaderMap, body: B) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let kind = headers.get(header::CONTENT_TYPE);
    let read = Limited::new(body, BODY_MAX_BYTES).collect().await;
    let whole = match read {
        Ok(whole) => whole.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body.too_large",
                format!("a body has at most {BODY_MAX_BYTES} bytes"),
            ));
        }
        Err(_) => return Err(Problem::malformed("body.broken", "the body did not end")),
    };
    let is_json = kind.is_some_and(|kind| {
        let kind = kind.as_bytes().split(|byte| *byte == b';').next();
        kind.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"application/json"))
    });
    if !whole.is_empty() && !is_json {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "body.type",
            "send JSON, with the content type application/json",
        ));
    }
    Ok(whole)
}
