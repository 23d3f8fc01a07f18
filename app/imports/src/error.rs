//! Why imports could not be looked after.

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store could not be asked or changed.
    #[error("the imports could not be read or changed")]
    Store(#[from] ratebox_store::Error),
    /// A saga could not be declared or started.
    #[error("the saga of an import could not be started")]
    Saga(#[from] ratebox_saga::Error),
}

impl Error {
    /// Worth trying again, unchanged.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Saga(error) => error.is_retryable(),
        }
    }
}
