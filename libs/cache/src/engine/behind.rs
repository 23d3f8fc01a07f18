//! Writing behind: the queue first, and readers who miss ask it before the origin.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use ratebox_kit::{PortError, id};
use tokio::sync::oneshot;

use super::Engine;
use crate::Error;
use crate::loaded::Loaded;
use crate::write_queue::QueuedWrite;

// === impl Engine ===

impl<V: Send + Sync + 'static> Engine<V> {
    /// Gives a write to the queue, in a task of its own: a write that the queue took is made known
    /// whoever waits for it. What the cache has is invalidated and not replaced: the order in which two
    /// writers come here need not be that of the queue.
    pub(crate) async fn write_behind(
        self: &Arc<Self>,
        key: &str,
        value: Option<&V>,
    ) -> Result<(), Error> {
        let Some(queue) = self.queue.clone() else {
            let what = "the cache has no write queue: name one where it is built";
            return Err(Error::Settings {
                what: what.to_owned(),
            });
        };
        let value = match value {
            Some(value) => {
                let bytes = self.codec.encode(value).map_err(Error::Encode)?;
                Some(Bytes::from(bytes))
            }
            None => None,
        };
        let write = QueuedWrite {
            id: id::new(),
            cache: self.cache.to_string(),
            key: key.to_owned(),
            value,
        };
        let (answer, answered) = oneshot::channel();
        let (engine, name) = (Arc::clone(self), self.name_of(key));
        self.tasks.spawn("cache write", async move {
            let appended = queue.append(write).await;
            if appended.is_ok() {
                engine.written(&name).await;
            }
            // Nobody waits any more: the write is done all the same.
            let _ = answer.send(appended.map_err(queue_error));
        });
        answered.await.unwrap_or(Err(Error::GivenUp))
    }

    /// A write is in the queue, or at the origin. What the tier could not be told is told later.
    pub(crate) async fn written(&self, name: &str) {
        if let Err(error) = self.invalidate(&[name.to_owned()], &[]).await {
            tracing::debug!(cache.name = %self.cache, error = %error, "a write is told later");
        }
    }

    /// What the queue has of a key that the origin may not have.
    pub(super) async fn queued(&self, key: &str) -> Result<Option<Loaded<V>>, Error> {
        let Some(queue) = &self.queue else {
            return Ok(None);
        };
        let newest = queue.newest(&self.cache, key).await.map_err(queue_error)?;
        let Some(write) = newest else {
            return Ok(None);
        };
        match write.value {
            Some(bytes) => {
                let value = self.codec.decode(&bytes).map_err(Error::Encode)?;
                Ok(Some(Loaded::value(value)))
            }
            None => Ok(Some(Loaded::absent())),
        }
    }

    /// The same for several keys: what was found, and what is left to ask the origin for.
    pub(super) async fn queued_many(
        &self,
        keys: Vec<String>,
    ) -> Result<(HashMap<String, Loaded<V>>, Vec<String>), Error> {
        let (mut found, mut left) = (HashMap::new(), Vec::new());
        if self.queue.is_none() {
            return Ok((found, keys));
        }
        let asked = join_all(keys.iter().map(|key| self.queued(key))).await;
        for (key, loaded) in keys.into_iter().zip(asked) {
            match loaded? {
                Some(loaded) => drop(found.insert(key, loaded)),
                None => left.push(key),
            }
        }
        Ok((found, left))
    }
}

fn queue_error(error: PortError) -> Error {
    Error::Queue(Arc::new(error))
}
