//! What the journal keeps of a saga: outcomes, never intentions.
//!
//! A step whose predecessors are done may have started; that needs no row. The state of a saga is
//! its records, folded in the order of their numbers.

use std::sync::Arc;

use bytes::Bytes;
use ratebox_kit::Timestamp;

/// What is known of the effect of a step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// It had no effect and never will.
    Rejected,
    /// It had no effect; another attempt may succeed.
    Retryable,
    /// It may have had its effect: a timeout, a cancellation, a panic, a lost answer.
    Unknown,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum Kind {
    /// An attempt of `step` began. Only for steps that ask for it.
    Started = 1,
    /// An attempt failed with `class`; the next begins at `due`.
    Retry = 2,
    /// `step` is done; `payload` is its result.
    Done = 3,
    /// `step` failed for good with `class`.
    Failed = 4,
    /// `step` is left out: its condition did not hold.
    Skipped = 5,
    /// `step` waits until `due`, for a time or for a signal.
    Armed = 6,
    /// `step` was undone.
    Undone = 10,
    /// An undo failed; the next attempt begins at `due`.
    UndoRetry = 11,
    /// An undo failed for good and waits for an operator.
    UndoFailed = 12,
    /// The saga is to be undone although no step failed: cancelled, past its deadline, or
    /// compensated by an operator. `note` says why.
    Cancelled = 20,
    /// The saga waits for an operator as a whole; `note` says why.
    Parked = 21,
    /// An operator has the failed step, or its failed undo, tried again.
    Revived = 30,
    /// An operator leaves the step, or its failed undo, out.
    LeftOut = 31,
    /// An operator gives the step's result, as `payload`.
    Supplied = 32,
    /// An operator lets a parked saga go on.
    Resumed = 33,
    /// An operator ended the saga as it is.
    Abandoned = 34,
}

/// One line of a saga's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Counts from 0 within the saga, without gaps. (saga, seq) is the key: the same record
    /// written twice is kept once.
    pub seq: u32,
    /// The step's name; empty for what is about the saga as a whole.
    pub step: Arc<str>,
    /// Which item of a fan-out; 0 for all other steps.
    pub item: u32,
    /// What happened.
    pub kind: Kind,
    /// For failures.
    pub class: Option<Class>,
    /// Counts from 1, for what was attempted; else 0.
    pub attempt: u32,
    /// When it was known, by the writing process' clock.
    pub at: Timestamp,
    /// How long the attempt took, in microseconds; 0 where nothing ran.
    pub took_us: u64,
    /// For [`Kind::Retry`], [`Kind::UndoRetry`] and [`Kind::Armed`].
    pub due: Option<Timestamp>,
    /// JSON. A result or a signal's value; its format is the saga's business.
    pub payload: Option<Bytes>,
    /// An error's words or a reason; at most [`NOTE_CHARS_MAX`] characters, no control characters.
    pub note: Option<String>,
    /// Who, for what a person did.
    pub who: Option<String>,
}

/// Longest note of a record, in characters.
pub const NOTE_CHARS_MAX: usize = 500;

// === impl Class ===

impl Class {
    /// Every class.
    pub const ALL: [Self; 3] = [Self::Rejected, Self::Retryable, Self::Unknown];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Retryable => "retryable",
            Self::Unknown => "unknown",
        }
    }

    /// Reads the stable word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }
}

// === impl Kind ===

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 16] = [
        Self::Started,
        Self::Retry,
        Self::Done,
        Self::Failed,
        Self::Skipped,
        Self::Armed,
        Self::Undone,
        Self::UndoRetry,
        Self::UndoFailed,
        Self::Cancelled,
        Self::Parked,
        Self::Revived,
        Self::LeftOut,
        Self::Supplied,
        Self::Resumed,
        Self::Abandoned,
    ];

    /// The stable word, for histories.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Retry => "retry",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Armed => "armed",
            Self::Undone => "undone",
            Self::UndoRetry => "undo_retry",
            Self::UndoFailed => "undo_failed",
            Self::Cancelled => "cancelled",
            Self::Parked => "parked",
            Self::Revived => "revived",
            Self::LeftOut => "left_out",
            Self::Supplied => "supplied",
            Self::Resumed => "resumed",
            Self::Abandoned => "abandoned",
        }
    }

    /// Reads the stable word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }

    /// The stable number, for stores that keep many.
    pub fn code(self) -> i16 {
        self as i16
    }

    /// Reads the stable number.
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.code() == code)
    }
}

/// A text as a record may carry it: no control characters (PostgreSQL refuses NUL), not too long.
pub(crate) fn note(text: &str) -> String {
    let chars = text.chars().take(NOTE_CHARS_MAX);
    chars
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_come_back_as_what_they_were() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
            assert_eq!(Kind::from_code(kind.code()), Some(kind));
        }
        for class in Class::ALL {
            assert_eq!(Class::parse(class.as_str()), Some(class));
        }
        assert_eq!(Kind::from_code(0), None);
    }

    #[test]
    fn a_note_has_no_control_characters_and_an_end() {
        assert_eq!(note("a\0b\nc"), "a b c");
        assert_eq!(note(&"ä".repeat(1_000)).chars().count(), NOTE_CHARS_MAX);
    }
}
