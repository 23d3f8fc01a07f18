//! Why a handler did not do its work.

/// What a handler answers in place of its result.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It may work the next time. The text reaches operators: no personal data.
    #[error("{0}")]
    Retry(String),
    /// It will never work: the message is parked at once.
    #[error("{0}")]
    Reject(String),
    /// The database refused or is away. An outage is charged to nobody.
    #[error("the effect could not be kept")]
    Db(#[from] ratebox_db::Error),
}

impl Failure {
    /// It may work the next time.
    pub fn retry(why: impl std::fmt::Display) -> Self {
        Self::Retry(why.to_string())
    }

    /// It will never work.
    pub fn reject(why: impl std::fmt::Display) -> Self {
        Self::Reject(why.to_string())
    }

    /// Of what went wrong after the handler.
    pub(super) fn of(error: crate::Error) -> Self {
        match error {
            crate::Error::Db(error) => Self::Db(error),
            other => Self::Retry(other.to_string()),
        }
    }

    pub(super) fn is_outage(&self) -> bool {
        matches!(self, Self::Db(error) if error.is_retryable())
    }

    /// What operators read.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Retry(why) | Self::Reject(why) => why.clone(),
            Self::Db(error) => error.to_string(),
        }
    }
}
