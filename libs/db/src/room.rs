//! Whether the database found no room lately: it answers questions then as ever.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ratebox_kit::Stopwatch;

use crate::{Error, Result};

/// So long one commit without room counts. Whoever is told meanwhile to ask elsewhere makes no commit here
/// that could show that there is room again.
const REMEMBERED: Duration = Duration::from_secs(10);

/// What the last commits say.
#[derive(Debug)]
pub(crate) struct Room {
    running: Stopwatch,
    /// Milliseconds of that watch until which there is none.
    none_until_ms: AtomicU64,
}

// === impl Room ===

impl Room {
    pub(crate) fn new() -> Self {
        Self {
            running: Stopwatch::start(),
            none_until_ms: AtomicU64::new(0),
        }
    }

    /// Learns from how a commit went.
    pub(crate) fn note<T>(&self, outcome: &Result<T>) {
        let until_ms = match outcome {
            Ok(_) => 0,
            Err(Error::Full { .. }) => self.running.elapsed_ms() + REMEMBERED.as_millis() as u64,
            Err(_) => return,
        };
        if self.none_until_ms.load(Ordering::Relaxed) != until_ms {
            self.none_until_ms.store(until_ms, Ordering::Relaxed);
        }
    }

    /// # Errors
    /// [`Error::Full`] when the last commit of the last seconds found no room.
    pub(crate) fn check(&self) -> Result<()> {
        self.check_at(self.running.elapsed_ms())
    }

    fn check_at(&self, now_ms: u64) -> Result<()> {
        if now_ms < self.none_until_ms.load(Ordering::Relaxed) {
            return Err(Error::Full {
                code: "the last commit".to_owned(),
            });
        }
        Ok(())
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
    }
}
