//! Why the outbox or the inbox could not serve a call.

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refused or could not be reached.
    #[error("the outbox's database call failed")]
    Db(#[from] ratebox_db::Error),
    /// Headers of a stored event cannot be read: another program wrote the row.
    #[error("stored headers of an event cannot be read")]
    Headers(#[source] serde_json::Error),
    /// A stored row of several events cannot be taken apart: another program wrote it.
    #[error("a stored row of several events cannot be read")]
    Bundle,
    /// A handler failed; the message should come again.
    #[error("the handler failed (attempt {attempts}): {why}")]
    Handler {
        /// Attempts so far.
        attempts: u32,
        /// The handler's own words.
        why: String,
    },
    /// A handler sent an event, but its consumer has no outbox.
    #[error("the consumer has no outbox to send through")]
    NoOutbox,
    /// A handler's result could not be written or read as JSON.
    #[error("a handler's result cannot be kept or read as JSON")]
    Result(#[source] serde_json::Error),
}

impl Error {
    /// Worth trying again, unchanged.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Db(error) => error.is_retryable(),
            Self::Handler { .. } => true,
            Self::Headers(_) | Self::Bundle | Self::NoOutbox | Self::Result(_) => false,
        }
    }
}

impl From<crate::Failure> for Error {
    fn from(failure: crate::Failure) -> Self {
        match failure {
            crate::Failure::Db(error) => Self::Db(error),
            crate::Failure::Retry(why) | crate::Failure::Reject(why) => {
                Self::Handler { attempts: 0, why }
            }
        }
    }
}
