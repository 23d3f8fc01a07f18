//! Large bodies in a store, and only their claim on the stream.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use ratebox_kit::{Causes, Message, PortError, id};
use ring::digest::{SHA256, digest};
use uuid::Uuid;

use super::Codec;
use super::seal::tampered;
use crate::Error;
use crate::handler::{Failure, Meta};

/// The header with the claim: key, bytes and SHA-256, separated by spaces.
const HEADER: &str = "rb-claim";

/// Keeps bodies: a bucket, a directory, a table. Keys are UUIDv7, so they sort by their time.
#[async_trait]
pub trait PayloadStore: Send + Sync {
    /// Keeps a body durably before it returns.
    async fn put(&self, key: Uuid, body: Bytes) -> Result<(), PortError>;

    /// The body, or `None` when it is not there.
    async fn get(&self, key: Uuid) -> Result<Option<Bytes>, PortError>;

    /// The oldest keys, at most `max`, in their order.
    async fn oldest(&self, max: usize) -> Result<Vec<Uuid>, PortError>;

    /// Forgets bodies; a missing one is no error.
    async fn remove(&self, keys: &[Uuid]) -> Result<(), PortError>;
}

/// Puts bodies above a size into a store and their claim on the stream.
///
/// The body is kept before the message is appended, and forgotten by [`super::Collector`] when
/// every group has acknowledged it. A body that cannot be found is tried again
/// (`claim.missing`), one that was changed is a dead letter of class `tampered`
/// (`claim.broken`).
#[derive(Clone)]
pub struct ClaimCheck {
    store: Arc<dyn PayloadStore>,
    above_bytes: usize,
}

// === impl ClaimCheck ===

impl ClaimCheck {
    /// Bodies of more than `above_bytes` go to `store`.
    pub fn new(store: Arc<dyn PayloadStore>, above_bytes: usize) -> Self {
        Self { store, above_bytes }
    }
}

#[async_trait]
impl Codec for ClaimCheck {
    async fn encode(&self, message: Message) -> Result<Message, Error> {
        if message.body.len() <= self.above_bytes {
            return Ok(message);
        }
        let key = id::new();
        let claim = claim(key, &message.body);
        let kept = self.store.put(key, message.body).await;
        kept.map_err(|error| Error::Connection(Box::new(error)))?;
        let body = Bytes::new();
        let id = message.id;
        let headers = message.headers;
        let claimed = Message { id, headers, body };
        Ok(claimed.with_header(HEADER, claim))
    }

    async fn decode(&self, meta: &Meta, body: Bytes) -> Result<Bytes, Failure> {
        let Some(header) = meta.header(HEADER) else {
            return Ok(body);
        };
        let broken = || tampered("claim.broken", "the body is not the one that was claimed");
        let key = header.split(' ').next().unwrap_or_default();
        let key = Uuid::parse_str(key).map_err(|_| broken())?;
        let found = self.store.get(key).await;
        let found = found.map_err(|error| Failure::pause("claim.store_away", Causes(&error)))?;
        let missing = || Failure::retry("claim.missing", "the store does not have the body");
        let body = found.ok_or_else(missing)?;
        if claim(key, &body) == header {
            Ok(body)
        } else {
            Err(broken())
        }
    }
}

fn claim(key: Uuid, body: &[u8]) -> String {
    let hash = id::hex(digest(&SHA256, body).as_ref());
    format!("{key} {} {hash}", body.len())
}
