//! Writing behind: a write is answered when a queue has it, and reaches the origin later.
//!
//! The queue is a port. Whoever fills it promises:
//!
//! - [`WriteQueue::append`] answers when the write cannot be lost any more (however durable that is
//!   for its kind);
//! - writes of one key are applied in the order in which they were appended, one at a time; of those
//!   that wait, all but the newest may be left out;
//! - a write is applied at least once, so what applies it must be idempotent;
//! - a write is in [`WriteQueue::newest`] until the origin has it or it is given up;
//! - one that fails is tried again, and given up ([`Apply::give_up`]) after as many tries as the
//!   queue allows; it is kept where an operator finds it, and other keys do not wait for it.
//!
//! A reader who misses asks the queue before the origin. So nobody reads what is older than a write
//! that was answered, even if the cache lost it.

mod memory;
mod waiting;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use ratebox_kit::PortError;
use uuid::Uuid;

use crate::Error;
use crate::engine::Engine;
use crate::error::Cause;
pub use memory::DeadWrite;
pub use memory::MemoryQueue;
pub use memory::MemoryQueueSettings;
pub use waiting::Due;
pub use waiting::Known;
pub use waiting::Place;
pub use waiting::SqliteWaiting;
pub use waiting::Text;
pub use waiting::ValkeyWaiting;
pub use waiting::Waiting;

/// A write on its way to the origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedWrite {
    /// UUIDv7: what makes it idempotent.
    pub id: Uuid,
    /// The cache that it came through.
    pub cache: String,
    /// The key's text. Writes of one cache and key keep their order.
    pub key: String,
    /// The value as the cache's codec writes it; `None` = the key has no value any more.
    pub value: Option<Bytes>,
}

/// Keeps writes until the origin has them. See the module for what it promises.
#[async_trait]
pub trait WriteQueue: Send + Sync {
    /// Takes a write.
    async fn append(&self, write: QueuedWrite) -> Result<(), PortError>;

    /// The newest write of a key that the origin does not have for sure. A queue that cannot tell
    /// answers `None`: a reader who misses while a write waits then gets what the origin has.
    async fn newest(&self, cache: &str, key: &str) -> Result<Option<QueuedWrite>, PortError>;
}

/// Brings writes to the origin; what a queue calls.
#[async_trait]
pub trait Apply: Send + Sync {
    /// Brings one write to the origin; what the cache has of it is invalidated then.
    ///
    /// # Errors
    /// [`Error::Write`] when another try may help; what is not retryable never will.
    async fn apply(&self, write: &QueuedWrite) -> Result<(), Error>;

    /// The queue gave the write up: what the cache has of it is invalidated. Called after the write
    /// has left [`WriteQueue::newest`].
    async fn give_up(&self, write: &QueuedWrite);
}

/// Writes a value of a key to the origin; `None` removes it.
pub(crate) type WriteOne<V> =
    Box<dyn Fn(QueuedWrite, Option<V>) -> BoxFuture<'static, Result<(), Cause>> + Send + Sync>;

/// Applies the writes of one cache.
pub(crate) struct Applier<V> {
    pub(crate) engine: Arc<Engine<V>>,
    pub(crate) write: WriteOne<V>,
}

#[async_trait]
impl<V: Send + Sync + 'static> Apply for Applier<V> {
    async fn apply(&self, write: &QueuedWrite) -> Result<(), Error> {
        let value = match &write.value {
            Some(bytes) => Some(self.engine.codec.decode(bytes).map_err(Error::Encode)?),
            None => None,
        };
        let written = (self.write)(write.clone(), value).await;
        written.map_err(Error::Write)?;
        // The process that took the write may have ended before it told of it, and a reader may have
        // loaded the value before, from a queue that cannot tell what waits.
        self.engine.written(&self.engine.name_of(&write.key)).await;
        Ok(())
    }

    async fn give_up(&self, write: &QueuedWrite) {
        let name = self.engine.name_of(&write.key);
        if let Err(error) = self.engine.invalidate(&[name], &[]).await {
            tracing::warn!(cache.name = %write.cache, error = %error,
                "a write that was given up is made known later");
        }
    }
}
