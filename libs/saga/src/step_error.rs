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
/// tried again under the same key, and undone in the end. Whatever the error says of one call, the
/// step may have done something before it. A step that knows better says so with
/// [`StepError::rejected`] or [`StepError::retryable`].
///
/// Of a step in a transaction nothing is left when it fails, so there `?` knows more: what the
/// database refused, and what is no JSON, is rejected; all else can be tried again.
#[derive(Clone, PartialEq, Eq)]
pub struct StepError {
    class: Class,
    /// What it is where nothing of the attempt is left.
    rolled_back: Class,
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
        let rolled_back = match class {
            Class::Unknown => Class::Retryable,
            Class::Rejected | Class::Retryable => class,
        };
        Self {
            class,
            rolled_back,
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

    /// The same error where nothing of the attempt is left: what is unknown elsewhere is known.
    pub(crate) fn rolled_back(mut self) -> Self {
        self.class = self.rolled_back;
        self
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
        Self {
            rolled_back: class_of(&error),
            ..Self::unknown(ratebox_kit::Causes(&error))
        }
    }
}

/// What an error means where nothing of the attempt is left.
fn class_of(error: &(dyn Any + Send + Sync)) -> Class {
    match error.downcast_ref::<ratebox_db::Error>() {
        Some(error) if error.is_retryable() => Class::Retryable,
        Some(_) => Class::Rejected,
        None if error.is::<serde_json::Error>() => Class::Rejected,
        None => Class::Retryable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its class in an ordinary step, and in a transaction.
    fn classes(error: impl Into<StepError>) -> (Class, Class) {
        let error: StepError = error.into();
        (error.class(), error.rolled_back().class())
    }

    #[test]
    fn an_error_that_came_by_itself_is_unknown_unless_nothing_is_left() {
        let again = (Class::Unknown, Class::Retryable);
        let never = (Class::Unknown, Class::Rejected);
        let io = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert_eq!(classes(io), again);
        let constraint = "orders_pkey".to_owned();
        assert_eq!(classes(ratebox_db::Error::Exists { constraint }), never);
        let code = "40001".to_owned();
        assert_eq!(classes(ratebox_db::Error::Contention { code }), again);
        assert_eq!(classes(ratebox_db::Error::Timeout { waited_ms: 1 }), again);
        let json = serde_json::from_str::<u8>("x").unwrap_err();
        assert_eq!(classes(json), never);
    }

    #[test]
    fn what_a_step_says_itself_is_kept() {
        let rejected = StepError::rejected("no").rolled_back();
        assert_eq!(rejected.class(), Class::Rejected);
        let retryable = StepError::retryable("not yet").rolled_back();
        assert_eq!(retryable.class(), Class::Retryable);
        let unknown = StepError::unknown("who knows").rolled_back();
        assert_eq!(unknown.class(), Class::Retryable);
    }
}
