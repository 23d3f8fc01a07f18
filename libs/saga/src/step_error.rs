//! How a step says that it failed, and what is known of its effect.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::Class;

/// Why a step, or its undo, failed. The text is kept in the journal and shown to operators: never
/// put personal data or secrets into it.
///
/// `?` turns any error into one of class [`Class::Unknown`], which is always safe: the step is
/// tried again under the same key, and undone in the end. Of a few errors more is known: what the
/// database refused had no effect, and what is no JSON never will be.
#[derive(Clone, PartialEq, Eq)]
pub struct StepError {
    class: Class,
    what: String,
    retry_after: Option<Duration>,
}

/// What a step returns.
pub type StepResult<T = ()> = Result<T, StepError>;

// === impl StepError ===

impl StepError {
    /// It had no effect and never will: a business "no". It is not tried again and not undone.
    pub fn rejected(what: impl fmt::Display) -> Self {
        Self::new(Class::Rejected, what)
    }

    /// It had no effect; another attempt may succeed.
    pub fn retryable(what: impl fmt::Display) -> Self {
        Self::new(Class::Retryable, what)
    }

    /// It may have had its effect. It is tried again under the same key; when no attempt
    /// succeeds, its undo runs and is told that there may be nothing to undo.
    pub fn unknown(what: impl fmt::Display) -> Self {
        Self::new(Class::Unknown, what)
    }

    fn new(class: Class, what: impl fmt::Display) -> Self {
        Self {
            class,
            what: crate::record::note(&what.to_string()),
            retry_after: None,
        }
    }

    /// The next attempt comes no earlier than this.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// What is known of the effect.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The words.
    pub fn what(&self) -> &str {
        &self.what
    }

    pub(crate) fn wait(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl fmt::Debug for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class.as_str(), self.what)
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for StepError {
    fn from(error: E) -> Self {
        Self::new(class_of(&error), ratebox_kit::Causes(&error))
    }
}

fn class_of(error: &(dyn Any + Send + Sync)) -> Class {
    if let Some(error) = error.downcast_ref::<ratebox_db::Error>() {
        return match error {
            error if error.is_outage() => Class::Unknown,
            error if error.is_retryable() => Class::Retryable,
            _ => Class::Rejected,
        };
    }
    if error.is::<serde_json::Error>() {
        return Class::Rejected;
    }
    Class::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(error: impl Into<StepError>) -> Class {
        error.into().class()
    }

    #[test]
    fn what_is_known_of_an_error_decides_its_class() {
        let io = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert_eq!(class(io), Class::Unknown);
        let constraint = "orders_pkey".to_owned();
        assert_eq!(
            class(ratebox_db::Error::Exists { constraint }),
            Class::Rejected
        );
        let code = "40001".to_owned();
        assert_eq!(
            class(ratebox_db::Error::Contention { code }),
            Class::Retryable
        );
        assert_eq!(
            class(ratebox_db::Error::Timeout { waited_ms: 1 }),
            Class::Unknown
        );
        let json = serde_json::from_str::<u8>("x").unwrap_err();
        assert_eq!(class(json), Class::Rejected);
    }
}
