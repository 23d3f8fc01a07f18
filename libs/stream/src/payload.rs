//! What happens to a body between its sender and its handler: made smaller, sealed, kept elsewhere, or
//! whatever else a [`Codec`] does.
//!
//! ```
//! use ratebox_kit::{Message, Secret};
//! use ratebox_stream::payload::{Codecs, Keys, Seal};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let key = Secret::new("00".repeat(32)); // 32 random bytes in hexadecimal, from your vault
//! let codecs = Codecs::new().then(Seal::new(Keys::new("2026-05", &key)?));
//! let sealed = codecs.encode(Message::new("m-1", "a secret")).await?;
//! assert!(!sealed.body.windows(6).any(|part| part == b"secret"));
//! // The receiver: Router::new().on(…).codecs(codecs)
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A message says in its headers what was done to it, so senders and receivers may be changed one
//! after the other. Dead letters keep the body as it was on the stream: a sealed one stays sealed.
//! Compression comes with the features `zstd` and `lz4`; it belongs before the seal.

mod claim_check;
mod collector;
#[cfg(any(feature = "lz4", feature = "zstd"))]
mod compress;
mod directory;
mod keys;
mod seal;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use ratebox_kit::Message;

use crate::Error;
use crate::handler::{Delivery, Failure, Meta};

pub use claim_check::ClaimCheck;
pub use claim_check::PayloadStore;
pub use collector::Collector;
#[cfg(any(feature = "lz4", feature = "zstd"))]
pub use compress::Compress;
#[cfg(any(feature = "lz4", feature = "zstd"))]
pub use compress::Compression;
pub use directory::DirectoryStore;
pub use keys::Keys;
pub use seal::Seal;

/// Changes bodies on their way, and changes them back.
#[async_trait]
pub trait Codec: Send + Sync {
    /// Before the message is appended. Marks in a header what it did; the id stays.
    async fn encode(&self, message: Message) -> Result<Message, Error>;

    /// Before the handler runs: the body as the sender had it. A message without the mark is
    /// handed on as it is, or refused.
    async fn decode(&self, meta: &Meta, body: Bytes) -> Result<Bytes, Failure>;
}

/// Codecs in the order of the sender. Cheap to clone.
#[derive(Clone, Default)]
pub struct Codecs(Vec<Arc<dyn Codec>>);

// === impl Codecs ===

impl Codecs {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one: the sender's last, the receiver's first.
    #[must_use]
    pub fn then(mut self, codec: impl Codec + 'static) -> Self {
        self.0.push(Arc::new(codec));
        self
    }

    /// The message as it goes onto the stream.
    ///
    /// # Errors
    /// When a codec cannot do its part, for example because its store is away.
    pub async fn encode(&self, mut message: Message) -> Result<Message, Error> {
        for codec in &self.0 {
            message = codec.encode(message).await?;
        }
        Ok(message)
    }

    /// The delivery as its handler sees it.
    pub(crate) async fn decode(&self, mut delivery: Delivery) -> Result<Delivery, Failure> {
        for codec in self.0.iter().rev() {
            let body = std::mem::take(&mut delivery.body);
            delivery.body = codec.decode(&delivery.meta, body).await?;
        }
        Ok(delivery)
    }
}
