//! The description of the interface, served as it stands in `openapi.json`.
//!
//! The file is written by hand; tests hold it against the table of routes and against the answers
//! of a running gateway.

use axum::http::StatusCode;

use crate::routes::json;
use crate::service::Response;

/// OpenAPI 3.1, JSON.
pub const OPENAPI: &str = include_str!("openapi.json");

pub(crate) fn document() -> Response {
    json(StatusCode::OK, OPENAPI)
}
