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
    /// The entry is stored, but it is not known to be on disk: a power cut may take it. Who appends
    /// again has it twice, unless it is recognised ([`crate::Append::recognised`]).
    #[error("the entry is stored, but not known to be on disk")]
    NotOnDisk(#[source] Cause),
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
    /// A limit of the producer is reached: nothing was stored. Passes when consumers catch up.
    #[error("{stream} is full: it has {have} {what} of {max}")]
    Backlog {
        /// The lane's stream.
        stream: StreamName,
        /// What is counted: `entries`, `bytes` or `scheduled messages`.
        what: &'static str,
        /// What it has, as far as the producer knows.
        have: u64,
        /// The limit.
        max: u64,
    },
    /// The entry has more fields than a retry can carry.
    #[error("the entry has {fields} fields, more than {max}")]
    TooManyFields {
        /// What it has.
        fields: usize,
        /// What is allowed.
        max: usize,
    },
    /// The log does not take our user or password, or does not let this user do it.
    #[error("the log refused: {what}")]
    Denied {
        /// In its words.
        what: String,
    },
    /// The log refused the call, or answered what nobody understands.
    #[error("the log refused: {what}")]
    Refused {
        /// In its words, without payload values.
        what: String,
        /// The backend's error, where there is one that `what` does not tell already.
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
            Self::Connection(_)
            | Self::Timeout(_)
            | Self::NotOnDisk(_)
            | Self::Full(_)
            | Self::NoGroup { .. }
            | Self::Backlog { .. } => true,
            Self::TooManyFields { .. } | Self::Denied { .. } | Self::Refused { .. } => false,
        }
    }

    /// Whether it is about who we are: it passes when somebody changes the user's rights, or ours.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied { .. })
    }

    /// The same error once more, for the next of many that failed in one call.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Full(cause) => Self::Full(text_of(cause.as_ref())),
            Self::Connection(cause) => Self::Connection(text_of(cause.as_ref())),
            Self::Timeout(cause) => Self::Timeout(text_of(cause.as_ref())),
            Self::NotOnDisk(cause) => Self::NotOnDisk(text_of(cause.as_ref())),
            Self::NoGroup { stream, group } => Self::NoGroup {
                stream: stream.clone(),
                group: group.clone(),
            },
            Self::Backlog {
                stream,
                what,
                have,
                max,
            } => Self::Backlog {
                stream: stream.clone(),
                what,
                have: *have,
                max: *max,
            },
            Self::TooManyFields { fields, max } => Self::TooManyFields {
                fields: *fields,
                max: *max,
            },
            Self::Denied { what } => Self::Denied { what: what.clone() },
            Self::Refused { what, source } => Self::Refused {
                what: what.clone(),
                source: source.as_deref().map(text_of),
            },
        }
    }

    pub(crate) fn refused(what: impl Into<String>) -> Self {
        Self::Refused {
            what: what.into(),
            source: None,
        }
    }
}

/// A cause cannot be cloned; its text can.
fn text_of(cause: &(dyn std::error::Error + Send + Sync)) -> Cause {
    cause.to_string().into()
}

#[cfg(test)]
mod tests {
    use ratebox_kit::Causes;

    use super::*;

    #[test]
    fn an_error_told_again_says_the_same_and_says_it_once() {
        let away: Cause = "no connection".into();
        for (error, text) in [
            (
                Error::refused("no (NOPERM)"),
                "the log refused: no (NOPERM)",
            ),
            (
                Error::Connection(away),
                "could not reach the log: no connection",
            ),
            (
                Error::Denied {
                    what: "no (NOPERM)".to_owned(),
                },
                "the log refused: no (NOPERM)",
            ),
            (
                Error::TooManyFields { fields: 9, max: 8 },
                "the entry has 9 fields, more than 8",
            ),
        ] {
            let again = error.again();
            assert_eq!(Causes(&again).to_string(), text);
            assert_eq!(Causes(&error).to_string(), text);
            assert_eq!(again.is_retryable(), error.is_retryable());
            assert_eq!(again.is_denied(), error.is_denied());
        }
    }
}
