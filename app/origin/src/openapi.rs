//! The OpenAPI document of the shipped example.

/// OpenAPI 3.1 as JSON.
pub const OPENAPI: &str = include_str!("openapi.json");
