//! What the routes do, by noun.

pub(crate) mod caches;
pub(crate) mod dead_letters;
pub(crate) mod health;
pub(crate) mod importer;
pub(crate) mod imports;
pub(crate) mod lookups;
pub(crate) mod pauses;
pub(crate) mod sagas;
pub(crate) mod streams;
pub(crate) mod validation;
mod wish;

use axum::http::{HeaderValue, StatusCode, header};
use bytes::Bytes;
use http_body_util::Full;

use crate::service::Response;

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
