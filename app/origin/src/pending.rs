//! A write that is answered before the origin has it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ratebox_cache::QueuedWrite;
use ratebox_kit::{Stopwatch, id};
use serde::{Deserialize, Serialize};

use crate::source::SourceError;

/// A write that waits for the origin. It travels as JSON, as the value of a [`QueuedWrite`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingWrite {
    /// Which resource.
    pub resource: String,
    /// Which key, as in its path.
    pub key: String,
    /// The writable fields in the order of their declaration; `None` leaves one as it is.
    pub fields: Vec<Option<String>>,
}

/// Why a pending write was not applied.
#[derive(Debug, thiserror::Error)]
pub enum NotApplied {
    /// Another program wrote it, or the declarations have changed since.
    #[error("the resource or its key is not known")]
    Unknown,
    /// The origin did not take it.
    #[error("the origin did not take the write")]
    Source(#[from] SourceError),
}

// === impl PendingWrite ===

impl PendingWrite {
    /// As it lies in a queue.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn queued(&self) -> Result<QueuedWrite, serde_json::Error> {
        Ok(QueuedWrite {
            id: id::new(),
            cache: self.resource.clone(),
            key: self.key.clone(),
            value: Some(serde_json::to_vec(self)?.into()),
        })
    }

    /// What must stay in order.
    pub(crate) fn order_key(&self) -> String {
        format!("{}/{}", self.resource, self.key)
    }
}

// === impl NotApplied ===

impl NotApplied {
    /// Whether the same write may be taken later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unknown => false,
            Self::Source(error) => error.is_retryable(),
        }
    }
}

/// A write that was not seen applied for so long was applied by another process, or waits for its
/// origin.
const SEEN_MAX: Duration = Duration::from_secs(60);

/// Keys that are remembered.
const KEYS_MAX: usize = 10_000;

/// How many writes of each key this process has queued lately and not seen applied. Forgetting one
/// costs a look at the origin and nothing else.
#[derive(Debug, Default)]
pub(crate) struct Queued(Mutex<HashMap<String, (u32, Stopwatch)>>);

// === impl Queued ===

impl Queued {
    pub(crate) fn add(&self, key: &str) {
        let mut queued = self.lock();
        if queued.len() >= KEYS_MAX {
            queued.retain(|_, (_, since)| since.elapsed() < SEEN_MAX);
        }
        let now = Stopwatch::start();
        let (count, since) = queued.entry(key.to_owned()).or_insert((0, now));
        (*count, *since) = (*count + 1, now);
    }

    /// One less; how many there still are.
    pub(crate) fn take(&self, key: &str) -> u32 {
        let mut queued = self.lock();
        let left = match queued.get_mut(key) {
            Some((count, since)) if *count > 1 && since.elapsed() < SEEN_MAX => {
                *count -= 1;
                *count
            }
            Some(_) | None => 0,
        };
        if left == 0 {
            queued.remove(key);
        }
        left
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (u32, Stopwatch)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
