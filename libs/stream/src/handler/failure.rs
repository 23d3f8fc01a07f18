//! Why a handler could not finish, and what is to be done about it.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use ratebox_kit::{Causes, DeadLetterClass, PortError};

use crate::{Cause, Entry, Outcome};

/// What is to be done with a message that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Try again with backoff; a dead letter of class `transient` after the last retry.
    Retry,
    /// A dead letter at once.
    Dead(DeadLetterClass),
    /// What every message needs is away: keep it, use up no attempt, stop reading for a while.
    Pause,
    /// Not yet: it comes again after this long, and no attempt is used.
    Snooze(Duration),
    /// Not here and not now: another consumer may take it at once.
    Release,
}

/// Why a message was not worked on.
///
/// Its text goes into logs and dead letters: write no value of the payload into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    kind: FailureKind,
    code: Cow<'static, str>,
    error: String,
}

// === impl Failure ===

impl Failure {
    /// A failure of any kind, with a stable code for filters and a text without payload values.
    pub fn new(
        kind: FailureKind,
        code: impl Into<Cow<'static, str>>,
        error: impl fmt::Display,
    ) -> Self {
        Self {
            kind,
            code: code.into(),
            error: error.to_string(),
        }
    }

    /// It may pass: try again with backoff.
    pub fn retry(code: impl Into<Cow<'static, str>>, error: impl fmt::Display) -> Self {
        Self::new(FailureKind::Retry, code, error)
    }

    /// It can never succeed: a dead letter of class `permanent` at once.
    pub fn dead(code: impl Into<Cow<'static, str>>, error: impl fmt::Display) -> Self {
        Self::new(FailureKind::Dead(DeadLetterClass::Permanent), code, error)
    }

    /// The bytes are nothing that this version understands: a dead letter of class `malformed`.
    pub fn malformed(code: impl Into<Cow<'static, str>>, error: impl fmt::Display) -> Self {
        Self::new(FailureKind::Dead(DeadLetterClass::Malformed), code, error)
    }

    /// What every message needs is away: nothing is charged to this one, and reading stops until
    /// a message gets through.
    pub fn pause(code: impl Into<Cow<'static, str>>, error: impl fmt::Display) -> Self {
        Self::new(FailureKind::Pause, code, error)
    }

    /// Not yet: it comes again after `wait`, and no attempt is used. It says so as often as it
    /// likes; [`crate::Entry::snoozes`] counts.
    pub fn snooze(wait: Duration) -> Self {
        Self::new(FailureKind::Snooze(wait), "snoozed", "put off")
    }

    /// Handed back: another consumer may take it at once, and this delivery does not count.
    pub fn release(code: impl Into<Cow<'static, str>>, error: impl fmt::Display) -> Self {
        Self::new(FailureKind::Release, code, error)
    }

    /// What is to be done.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// The stable code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The text.
    pub fn error(&self) -> &str {
        &self.error
    }

    pub(crate) fn outcome(self, entry: Entry) -> Outcome {
        let Self { kind, code, error } = self;
        let code = code.into_owned();
        match kind {
            FailureKind::Retry => Outcome::Retry { entry, error, code },
            FailureKind::Dead(class) => Outcome::Dead {
                entry,
                class,
                error,
                code,
            },
            FailureKind::Pause => Outcome::Pause { entry, error, code },
            FailureKind::Snooze(wait) => Outcome::Snooze { entry, wait },
            FailureKind::Release => Outcome::Release { entry },
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.error, self.code)
    }
}

impl std::error::Error for Failure {}

/// An error that says what is to be done with the message: the `E` of a handler's result.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what becomes of a message that failed with it",
    label = "no `IntoFailure`",
    note = "implement `IntoFailure` for it, or turn it into a `Failure` where it happens: \
            `.or_retry(\"code\")?`, `.or_dead(\"code\")?`, `.or_pause(\"code\")?`"
)]
pub trait IntoFailure {
    /// Decides.
    fn into_failure(self) -> Failure;
}

impl IntoFailure for Failure {
    fn into_failure(self) -> Failure {
        self
    }
}

impl IntoFailure for Infallible {
    fn into_failure(self) -> Failure {
        match self {}
    }
}

/// A database that is away pauses the consumer; a contention is tried again; a value that it
/// refuses is a dead letter after the retries.
impl IntoFailure for ratebox_db::Error {
    fn into_failure(self) -> Failure {
        of_database(&self).unwrap_or_else(|| Failure::retry(self.code(), &self))
    }
}

/// A log that is away pauses the consumer.
impl IntoFailure for crate::Error {
    fn into_failure(self) -> Failure {
        if self.is_retryable() {
            Failure::pause("log.away", Causes(&self))
        } else {
            Failure::dead("log.refused", Causes(&self))
        }
    }
}

/// As the database error among its causes says, else it is tried again.
impl IntoFailure for PortError {
    fn into_failure(self) -> Failure {
        of_causes(&self).unwrap_or_else(|| Failure::retry("port.failed", Causes(&self)))
    }
}

/// What layers of others return: a [`Failure`] among its causes counts, everything else is tried
/// again.
impl IntoFailure for Cause {
    fn into_failure(self) -> Failure {
        let is_late = self.to_string() == "request timed out";
        match self.downcast::<Failure>() {
            Ok(failure) => *failure,
            Err(_) if is_late => Failure::retry("handler.timeout", "the handler took too long"),
            Err(error) => of_causes(error.as_ref())
                .unwrap_or_else(|| Failure::retry("handler.failed", Causes(error.as_ref()))),
        }
    }
}

fn of_causes(error: &(dyn std::error::Error + 'static)) -> Option<Failure> {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut found = causes.filter_map(|cause| cause.downcast_ref::<ratebox_db::Error>());
    of_database(found.next()?)
}

fn of_database(error: &ratebox_db::Error) -> Option<Failure> {
    let is_away = error.is_outage();
    is_away.then(|| Failure::pause(error.code(), error))
}

/// Says in place what an error means for the message.
pub trait OrFail<T> {
    /// The error may pass: try again with backoff.
    ///
    /// # Errors
    /// [`Failure::retry`] with the error's text.
    fn or_retry(self, code: &'static str) -> Result<T, Failure>;

    /// The message can never succeed: a dead letter of class `permanent`.
    ///
    /// # Errors
    /// [`Failure::dead`] with the error's text.
    fn or_dead(self, code: &'static str) -> Result<T, Failure>;

    /// What every message needs is away.
    ///
    /// # Errors
    /// [`Failure::pause`] with the error's text.
    fn or_pause(self, code: &'static str) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> OrFail<T> for Result<T, E> {
    fn or_retry(self, code: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure::retry(code, error))
    }

    fn or_dead(self, code: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure::dead(code, error))
    }

    fn or_pause(self, code: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure::pause(code, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_away_is_found_among_the_causes() {
        let away = ratebox_db::Error::Timeout { waited_ms: 5 };
        let failure = PortError::new("could not mark", away).into_failure();
        assert_eq!(
            (failure.kind(), failure.code()),
            (FailureKind::Pause, "db.timeout")
        );
        let other = PortError::new("could not mark", std::io::Error::other("full"));
        assert_eq!(other.into_failure().kind(), FailureKind::Retry);
    }

    #[test]
    fn a_failure_comes_through_a_layer_that_boxes_errors() {
        let boxed: Cause = Box::new(Failure::dead("user.unknown", "no such user"));
        assert_eq!(boxed.into_failure().code(), "user.unknown");
    }
}
