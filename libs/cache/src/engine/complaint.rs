//! Telling of values that can never be kept, once in a while: their loads are repeated at every read.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ratebox_kit::Stopwatch;

use super::Engine;
use crate::Error;

/// Between two warnings of one cache.
const EVERY: Duration = Duration::from_secs(60);

/// When a cache warned last.
#[derive(Debug, Default)]
pub(crate) struct Complaint(Mutex<Option<Stopwatch>>);

// === impl Complaint ===

impl Complaint {
    /// Whether it is time for one; if so, the next one is due later.
    fn is_due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_some_and(|last| last.elapsed() < EVERY) {
            return false;
        }
        *last = Some(Stopwatch::start());
        true
    }
}

// === impl Engine ===

impl<V: Send + Sync + 'static> Engine<V> {
    /// A value was not kept. Where the next one of its kind will not be either, somebody has to change
    /// something, and is told.
    pub(super) fn complain(&self, error: &Error) {
        let is_lasting = matches!(
            error,
            Error::Settings { .. }
                | Error::TooLarge { .. }
                | Error::KeyTooLong { .. }
                | Error::Encode(_)
        );
        if is_lasting && self.complaint.is_due() {
            tracing::warn!(
                cache.name = %self.cache,
                error = %error,
                "a value cannot be kept: every read loads it again"
            );
        }
    }
}
