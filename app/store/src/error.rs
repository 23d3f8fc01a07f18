//! Why the store could not serve a call.

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refused or could not be reached.
    #[error("the store's database call failed")]
    Db(#[from] ratebox_db::Error),
    /// A stored row holds what this version does not understand.
    #[error("a stored {what} cannot be read")]
    Unreadable {
        /// Which kind of value.
        what: &'static str,
    },
    /// The predecessor's tables cannot be copied.
    #[error("{what}")]
    Adoption {
        /// What to change.
        what: String,
    },
}

impl Error {
    /// Worth trying again, unchanged.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Db(error) if error.is_retryable())
    }

    /// The database is away or full; waiting helps.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Db(error) if error.is_outage())
    }

    /// Some row of the call is to blame.
    pub fn is_data(&self) -> bool {
        matches!(self, Self::Db(error) if error.is_data())
    }

    /// A stable word for metrics and dead letters.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Db(error) => error.code(),
            Self::Unreadable { .. } => "store.unreadable",
            Self::Adoption { .. } => "store.adoption",
        }
    }
}
