//! How often, and after how long, a step is tried again.

use std::time::Duration;

use ratebox_kit::Backoff;

/// A policy of retries: exponential with full jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts after the first; `u32::MAX` for no end.
    pub max: u32,
    /// The waits before them.
    pub backoff: Backoff,
}

// === impl Retry ===

impl Retry {
    /// One attempt only.
    pub fn none() -> Self {
        Self::times(0)
    }

    /// `max` attempts after the first, 100 ms to 30 s apart.
    pub fn times(max: u32) -> Self {
        let backoff = Backoff {
            first: Duration::from_millis(100),
            max: Duration::from_secs(30),
        };
        Self { max, backoff }
    }

    /// Until it succeeds or is rejected.
    pub fn forever() -> Self {
        Self::times(u32::MAX)
    }

    /// The first wait is up to `first`, later ones double up to `max`.
    #[must_use]
    pub fn between(mut self, first: Duration, max: Duration) -> Self {
        self.backoff = Backoff { first, max };
        self
    }

    /// The wait after `attempt` attempts failed; `None` when that was the last. `draw` is from
    /// `0.0..1.0`.
    pub fn next(&self, attempt: u32, draw: f64) -> Option<Duration> {
        (attempt <= self.max).then(|| self.backoff.delay(attempt, draw))
    }
}

impl Default for Retry {
    /// Three retries.
    fn default() -> Self {
        Self::times(3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_end_after_the_last_and_waits_grow() {
        let retry = Retry::times(2).between(Duration::from_secs(1), Duration::from_secs(9));
        let waits: Vec<_> = (1..=3).map(|attempt| retry.next(attempt, 1.0)).collect();
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(waits, [seconds(1), seconds(2), None]);
        assert_eq!(Retry::none().next(1, 0.5), None);
        assert!(Retry::forever().next(u32::MAX - 1, 0.5).is_some());
    }
}
