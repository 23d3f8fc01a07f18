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
}

impl Error {
    /// Worth trying again, unchanged.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Db(error) => error.is_retryable(),
            Self::Headers(_) | Self::Bundle => false,
        }
    }
}
