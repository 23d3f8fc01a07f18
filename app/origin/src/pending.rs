//! A write that is answered before the origin has it.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::source::SourceError;

/// A write that waits for the origin. It travels as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingWrite {
    /// Which resource.
    pub resource: String,
    /// Which key, as in its path.
    pub key: String,
    /// The writable fields in the order of their declaration; `None` leaves one as it is.
    pub fields: Vec<Option<String>>,
}

/// Keeps writes until they are applied.
///
/// Once `push` has answered, the write outlives this process and its server. Writes of one key are
/// applied in the order in which they were pushed; each at least once. What fails is tried again
/// with a pause, and kept as a dead letter in the end.
#[async_trait]
pub trait WriteQueue: Send + Sync {
    /// Keeps a write.
    ///
    /// # Errors
    /// When it may not have been kept.
    async fn push(
        &self,
        write: &PendingWrite,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
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
    /// What must stay in order.
    pub fn order_key(&self) -> String {
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
