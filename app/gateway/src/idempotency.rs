//! Idempotency keys: one submission for one key, and the same answer for each repetition.
//!
//! In durable mode keys live in the store and are claimed in the transaction of the submission.
//! In stream mode there is no such transaction: they live behind a port, and the claim is made
//! before the append. A claim without an outcome (a crash between the two) is taken up by the
//! next repetition with the *same* ids, so that the inbox of the worker knows them.

use async_trait::async_trait;
use axum::http::{HeaderMap, HeaderName, Method};
use ratebox_kit::{PortError, id};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::problem::ApiError;

/// The header of a request.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of an answer that was given before.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Longest key.
const LENGTH_MAX: usize = 255;

/// Where stream mode keeps its keys: a map with expiry, on a server that all gateways share.
#[async_trait]
pub trait IdempotencyKeys: Send + Sync {
    /// Keeps `value` for `kept` unless the key is there; returns the value that was there.
    ///
    /// # Errors
    /// When the server cannot be reached.
    async fn keep_if_absent(
        &self,
        key: &str,
        value: &str,
        kept: Duration,
    ) -> Result<Option<String>, PortError>;

    /// Keeps `value` for `kept`, whatever was there.
    ///
    /// # Errors
    /// When the server cannot be reached.
    async fn keep(&self, key: &str, value: &str, kept: Duration) -> Result<(), PortError>;
}

/// A client's key, and what it may be used for again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) owner: String,
    pub(crate) key: String,
    /// Hash of method, path, owner and body.
    pub(crate) fingerprint: String,
}

impl Key {
    /// The name under which stream mode keeps it. Hashed, for the key is the client's own text.
    pub(crate) fn name(&self) -> String {
        let mut hash = Context::new(&SHA256);
        hash.update(self.owner.as_bytes());
        hash.update(&[0]);
        hash.update(self.key.as_bytes());
        format!("ratebox:idempotency:{}", id::hex(hash.finish().as_ref()))
    }
}

/// What stream mode keeps of a submission with a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) fingerprint: String,
    /// The ids of its requests, in order.
    pub(crate) ids: Vec<uuid::Uuid>,
    pub(crate) answer: String,
    /// Where the first request is on the bus, once it is there.
    pub(crate) entry: Option<String>,
    pub(crate) claimed_at_ms: i64,
}

/// Reads the key of a request, if there is one.
///
/// # Errors
/// 400 when it is no text of 1 to 255 visible ASCII characters, or there are two.
pub(crate) fn key(
    headers: &HeaderMap,
    method: &Method,
    path: &str,
    owner: &str,
    body: &[u8],
) -> Result<Option<Key>, ApiError> {
    let mut given = headers.get_all(HEADER).iter();
    let Some(value) = given.next() else {
        return Ok(None);
    };
    let text = value.as_bytes();
    let visible = text.iter().all(u8::is_ascii_graphic);
    if !(1..=LENGTH_MAX).contains(&text.len()) || !visible || given.next().is_some() {
        return Err(ApiError::bad_request(
            "idempotency.malformed",
            "an idempotency key has 1 to 255 visible ASCII characters",
        ));
    }
    let mut hash = Context::new(&SHA256);
    for part in [method.as_str(), path, owner] {
        hash.update(part.as_bytes());
        hash.update(&[0]);
    }
    hash.update(body);
    Ok(Some(Key {
        owner: owner.to_owned(),
        key: String::from_utf8_lossy(text).into_owned(),
        fingerprint: id::hex(hash.finish().as_ref()),
    }))
}
