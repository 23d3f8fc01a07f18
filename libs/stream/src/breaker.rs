//! Stops taking entries while what the handler needs is away, and tries again with backoff.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ratebox_kit::Timestamp;

/// Tripped by a pause, closed by the first batch that gets through.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    until: Option<Timestamp>,
    /// Since when nothing got through.
    since: Option<Timestamp>,
}

// === impl Breaker ===

impl Breaker {
    /// Something is away, found out by work that took `after`. `wait` says how long to wait after
    /// so many failures in a row.
    pub(crate) fn trip(&self, now: Timestamp, after: Duration, wait: impl Fn(u32) -> Duration) {
        let mut state = self.lock();
        let began = now.checked_sub(after).unwrap_or(now);
        state.since.get_or_insert(began);
        state.failures = state.failures.saturating_add(1);
        state.until = Some(now.saturating_add(wait(state.failures)).unwrap_or(now));
    }

    /// A batch got through.
    pub(crate) fn close(&self) {
        *self.lock() = State::default();
    }

    /// Whether something is away; then one batch at a time is offered.
    pub(crate) fn is_tripped(&self) -> bool {
        self.lock().until.is_some()
    }

    /// How long it has been away.
    pub(crate) fn tripped_for(&self, now: Timestamp) -> Option<Duration> {
        let since = self.lock().since?;
        Some(Duration::try_from(now.duration_since(since)).unwrap_or_default())
    }

    /// How long until the next offer; `None` when one may be made now.
    pub(crate) fn wait(&self, now: Timestamp) -> Option<Duration> {
        let until = self.lock().until?;
        let wait = Duration::try_from(until.duration_since(now)).ok()?;
        (!wait.is_zero()).then_some(wait)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_while_it_is_tripped_and_end_when_a_batch_gets_through() {
        let breaker = Breaker::default();
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        assert!(breaker.wait(now).is_none() && !breaker.is_tripped());
        let waits: Vec<_> = (0..3)
            .map(|_| {
                let wait = |failures| Duration::from_secs(u64::from(failures));
                breaker.trip(now, Duration::from_secs(7), wait);
                breaker.wait(now).unwrap().as_secs()
            })
            .collect();
        assert_eq!(waits, [1, 2, 3]);
        let later = now.saturating_add(Duration::from_secs(3)).unwrap();
        assert!(breaker.wait(later).is_none() && breaker.is_tripped());
        let away = breaker.tripped_for(later);
        assert_eq!(
            away,
            Some(Duration::from_secs(10)),
            "since the first of them began"
        );
        breaker.close();
        assert!(!breaker.is_tripped() && breaker.tripped_for(later).is_none());
    }
}
