//! Why the cache could not answer.

use std::sync::Arc;

/// The cause of an error that several callers get.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Why the cache could not answer. Cheap to clone: all readers of one load get the same.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The loader failed, and no older value may stand in for it.
    #[error("the value could not be loaded")]
    Load(#[source] Cause),
    /// The origin refused a write, or it is unknown whether it has it. What the cache had is
    /// invalidated.
    #[error("the value could not be written")]
    Write(#[source] Cause),
    /// The write queue failed: whether it has a write is unknown, or whether it holds a newer value.
    #[error("the write queue failed")]
    Queue(#[source] Arc<ratebox_kit::PortError>),
    /// The loader panicked.
    #[error("the loader panicked")]
    Panicked,
    /// Neither the tier nor the loader answered in time. The load goes on and fills the cache when
    /// it ends.
    #[error("no value within {waited_ms} ms")]
    Timeout {
        /// How long was waited.
        waited_ms: u64,
    },
    /// The load was given up: it took too long, or the process stops.
    #[error("the load was given up")]
    GivenUp,
    /// As many loads run or wait as may.
    #[error("too many loads are under way")]
    Overloaded,
    /// The shared tier does not answer. A change is known in this process and is told to the tier
    /// when it is back.
    #[error("the shared tier is away")]
    Away,
    /// The shared tier is Redis or Valkey and failed.
    #[error("the shared tier failed")]
    Valkey(#[source] ratebox_valkey::Error),
    /// The shared tier is a database and failed.
    #[error("the shared tier failed")]
    Db(#[source] Arc<ratebox_db::Error>),
    /// The value cannot be written in the cache's format.
    #[error("the value cannot be encoded")]
    Encode(#[source] Cause),
    /// The value is larger than the cache takes.
    #[error("a value of {bytes} bytes is larger than the {bytes_max} that the cache takes")]
    TooLarge {
        /// Its size, encoded.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The key is longer than the cache takes.
    #[error("a key of {bytes} bytes is longer than the {bytes_max} that the cache takes")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// More keys in one call than are taken.
    #[error("{keys} keys in one call are more than {keys_max}")]
    TooManyKeys {
        /// How many.
        keys: usize,
        /// The limit.
        keys_max: usize,
    },
    /// A setting cannot work.
    #[error("{what}")]
    Settings {
        /// What to change.
        what: String,
    },
}

// === impl Error ===

impl Error {
    /// Whether the same call may succeed later without anyone doing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Load(_)
            | Self::Write(_)
            | Self::Queue(_)
            | Self::Timeout { .. }
            | Self::GivenUp
            | Self::Overloaded
            | Self::Away => true,
            Self::Valkey(error) => error.is_retryable(),
            Self::Db(error) => error.is_retryable(),
            Self::Panicked
            | Self::Encode(_)
            | Self::TooLarge { .. }
            | Self::KeyTooLong { .. }
            | Self::TooManyKeys { .. }
            | Self::Settings { .. } => false,
        }
    }
}

impl From<ratebox_valkey::Error> for Error {
    fn from(error: ratebox_valkey::Error) -> Self {
        Self::Valkey(error)
    }
}

impl From<ratebox_db::Error> for Error {
    fn from(error: ratebox_db::Error) -> Self {
        Self::Db(Arc::new(error))
    }
}
