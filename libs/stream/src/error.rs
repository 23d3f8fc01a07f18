//! Why the log could not serve a call.

use crate::{GroupName, StreamName};

/// Why the log could not serve a call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log cannot be reached, or the connection broke; a write may or may not be stored.
    #[error("could not reach the log")]
    Connection(#[source] Cause),
    /// No answer in time; a write may or may not be stored.
    #[error("no answer from the log in time")]
    Timeout(#[source] Cause),
    /// The log takes no writes: its memory or disk is full. Nothing was stored.
    #[error("the log is full")]
    Full(#[source] Cause),
    /// The group does not exist, so the stream was lost or emptied.
    #[error("group {group} does not exist on {stream}")]
    NoGroup {
        /// The stream.
        stream: StreamName,
        /// The group.
        group: GroupName,
    },
    /// The entry has more fields than a retry can carry.
    #[error("the entry has {fields} fields, more than {max}")]
    TooManyFields {
        /// What it has.
        fields: usize,
        /// What is allowed.
        max: usize,
    },
    /// The log refused the call, or answered what nobody understands.
    #[error("the log refused: {what}")]
    Refused {
        /// In its words, without payload values.
        what: String,
        /// The backend's error, if there is one.
        #[source]
        source: Option<Cause>,
    },
}

/// The backend's own error.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

impl Error {
    /// Whether the same call may succeed later without anyone doing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connection(_) | Self::Timeout(_) | Self::Full(_) | Self::NoGroup { .. } => true,
            Self::TooManyFields { .. } | Self::Refused { .. } => false,
        }
    }

    /// The same error once more, for the next of many that failed in one call.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Full(cause) => Self::Full(cause.to_string().into()),
            Self::Connection(cause) => Self::Connection(cause.to_string().into()),
            Self::Timeout(cause) => Self::Timeout(cause.to_string().into()),
            Self::NoGroup { .. } | Self::TooManyFields { .. } | Self::Refused { .. } => {
                Self::refused(self.to_string())
            }
        }
    }

    pub(crate) fn refused(what: impl Into<String>) -> Self {
        Self::Refused {
            what: what.into(),
            source: None,
        }
    }
}
