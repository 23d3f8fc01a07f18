//! Whether the database took no writes lately, for want of room, or as it takes none: it answers questions
//! then as ever.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ratebox_kit::Stopwatch;

use crate::{Error, Result};

/// So long one such commit counts. Whoever is told meanwhile to ask elsewhere makes no commit here
/// that could show that it takes writes again.
const REMEMBERED: Duration = Duration::from_secs(10);

/// SQLSTATE of a server that takes no writes: a standby, or one that is set so.
pub(crate) const NO_WRITES: &str = "25006";

/// What the last commits say.
#[derive(Debug)]
pub(crate) struct Room {
    running: Stopwatch,
    closed: Mutex<Option<Closed>>,
}

/// Until when no write is taken for all that is known, in milliseconds of that watch, and why.
#[derive(Clone, Copy, Debug)]
struct Closed {
    until_ms: u64,
    is_full: bool,
}

// === impl Room ===

impl Room {
    pub(crate) fn new() -> Self {
        Self {
            running: Stopwatch::start(),
            closed: Mutex::new(None),
        }
    }

    /// Learns from how a commit went.
    pub(crate) fn note<T>(&self, outcome: &Result<T>) {
        let closed = |is_full| Closed {
            until_ms: self.running.elapsed_ms() + REMEMBERED.as_millis() as u64,
            is_full,
        };
        *self.closed() = match outcome {
            Ok(_) => None,
            Err(Error::Full { .. }) => Some(closed(true)),
            // Other refusals are of one table, and others may go on.
            Err(Error::Refused { code, .. }) if code == NO_WRITES => Some(closed(false)),
            Err(_) => return,
        };
    }

    /// # Errors
    /// [`Error::Full`] or [`Error::Refused`] when the last commit of the last seconds ended so.
    pub(crate) fn check(&self) -> Result<()> {
        self.check_at(self.running.elapsed_ms())
    }

    fn check_at(&self, now_ms: u64) -> Result<()> {
        let closed = *self.closed();
        match closed.filter(|closed| now_ms < closed.until_ms) {
            None => Ok(()),
            Some(closed) if closed.is_full => Err(Error::Full {
                code: "the last commit".to_owned(),
            }),
            Some(_) => Err(Error::Refused {
                code: NO_WRITES.to_owned(),
                said: None,
            }),
        }
    }

    fn closed(&self) -> std::sync::MutexGuard<'_, Option<Closed>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_room_counts_until_a_commit_finds_some_or_for_ten_seconds() {
        let room = Room::new();
        let full = || {
            Err::<(), _>(Error::Full {
                code: "53100".to_owned(),
            })
        };
        room.note(&full());
        assert!(room.check().is_err());
        room.note(&Err::<(), _>(Error::Failed));
        assert!(room.check().is_err(), "another error says nothing");
        room.note(&Ok(()));
        assert!(room.check().is_ok());
        room.note(&full());
        let later_ms = room.running.elapsed_ms() + 10_001;
        assert!(room.check_at(later_ms - 5_000).is_err());
        assert!(room.check_at(later_ms).is_ok());
        let refused = Error::Refused {
            code: NO_WRITES.to_owned(),
            said: None,
        };
        room.note(&Err::<(), _>(refused));
        assert!(room.check().unwrap_err().is_refusal());
        room.note(&Ok(()));
        let denied = Error::Refused {
            code: "42501".to_owned(),
            said: None,
        };
        room.note(&Err::<(), _>(denied));
        assert!(room.check().is_ok());
    }
}
