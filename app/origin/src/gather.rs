//! One batched load for all keys of a bulk read that the cache does not have.
//!
//! Each missing key has a load of its own, so that singleflight, leases and invalidations hold for
//! it; those loads meet here, and one question to the origin answers them. It is asked after the
//! last of them began, so nothing older than an invalidation gets in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::resource::Key;
use crate::source::{Source, SourceError};

/// Nobody else came for this long: the question is asked.
const QUIET: Duration = Duration::from_millis(2);

/// Rounds of waiting at most.
const ROUNDS_MAX: usize = 10;

/// A shared failure of one question.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the batched load failed")]
pub(crate) struct BatchError(#[source] Arc<SourceError>);

impl BatchError {
    /// Why.
    pub(crate) fn source_error(&self) -> &SourceError {
        &self.0
    }
}

type Answer = Result<Option<Bytes>, BatchError>;

/// The keys of one bulk read that wait for the origin.
#[derive(Debug)]
pub(crate) struct Gather {
    source: Source,
    waiting: Mutex<HashMap<Key, oneshot::Sender<Answer>>>,
}

// === impl Gather ===

impl Gather {
    pub(crate) fn new(source: Source) -> Self {
        Self {
            source,
            waiting: Mutex::default(),
        }
    }

    /// The value of one key, by a question for many. Each key comes at most once.
    pub(crate) async fn load(&self, key: Key) -> Answer {
        let (tell, told) = oneshot::channel();
        let is_first = {
            let mut waiting = self.lock();
            let is_first = waiting.is_empty();
            waiting.insert(key, tell);
            is_first
        };
        if is_first {
            self.ask().await;
        }
        // The sender is dropped only with its question.
        told.await.unwrap_or(Ok(None))
    }

    async fn ask(&self) {
        let mut before = 0;
        for _ in 0..ROUNDS_MAX {
            let now = self.lock().len();
            if now == before {
                break;
            }
            before = now;
            tokio::time::sleep(QUIET).await;
        }
        let waiting = std::mem::take(&mut *self.lock());
        let keys: Vec<Key> = waiting.keys().cloned().collect();
        let mut found = self
            .source
            .get_many(&keys)
            .await
            .map_err(|error| BatchError(Arc::new(error)));
        for (key, tell) in waiting {
            let answer = match &mut found {
                Ok(values) => Ok(values.remove(&key)),
                Err(error) => Err(error.clone()),
            };
            // Fails when its load was given up.
            let _ = tell.send(answer);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, oneshot::Sender<Answer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
