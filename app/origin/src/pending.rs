//! A write that is answered before the origin has it.

use ratebox_cache::QueuedWrite;
use ratebox_kit::id;
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

    /// Reads what [`Self::queued`] wrote; `None` when another program did.
    pub fn read(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
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
