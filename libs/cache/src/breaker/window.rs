//! Calls, failures and slow calls of the last seconds, in ten buckets that are used in turn.

use std::time::Duration;

/// Buckets of a window: it slides by this fraction.
const BUCKETS: usize = 10;

/// What happened lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) calls: u32,
    pub(super) failed: u32,
    pub(super) slow: u32,
}

/// What happened within a window that ends now.
#[derive(Debug)]
pub(super) struct Window {
    /// Nanoseconds that one bucket covers.
    bucket_ns: u128,
    buckets: [(u128, Tally); BUCKETS],
}

// === impl Tally ===

impl Tally {
    /// Whether at least `rate` of at least `calls_min` calls are `count`.
    pub(super) fn reaches(self, count: u32, rate: f64, calls_min: u32) -> bool {
        count > 0 && self.calls >= calls_min && f64::from(count) >= f64::from(self.calls) * rate
    }
}

// === impl Window ===

impl Window {
    pub(super) fn new(length: Duration) -> Self {
        Self {
            bucket_ns: (length.as_nanos() / BUCKETS as u128).max(1),
            buckets: [(0, Tally::default()); BUCKETS],
        }
    }

    /// Counts one call that ended at `now`.
    pub(super) fn add(&mut self, now: Duration, failed: bool, slow: bool) {
        let number = now.as_nanos() / self.bucket_ns;
        let place = usize::try_from(number % BUCKETS as u128).unwrap_or(0);
        if let Some((owner, tally)) = self.buckets.get_mut(place) {
            if *owner != number {
                (*owner, *tally) = (number, Tally::default());
            }
            tally.calls = tally.calls.saturating_add(1);
            tally.failed = tally.failed.saturating_add(u32::from(failed));
            tally.slow = tally.slow.saturating_add(u32::from(slow));
        }
    }

    /// What the window holds at `now`.
    pub(super) fn tally(&self, now: Duration) -> Tally {
        let newest = now.as_nanos() / self.bucket_ns;
        let oldest = newest.saturating_sub(BUCKETS as u128 - 1);
        let mut sum = Tally::default();
        for (number, tally) in &self.buckets {
            if (oldest..=newest).contains(number) {
                sum.calls = sum.calls.saturating_add(tally.calls);
                sum.failed = sum.failed.saturating_add(tally.failed);
                sum.slow = sum.slow.saturating_add(tally.slow);
            }
        }
        sum
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.buckets = [(0, Tally::default()); BUCKETS];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let mut window = Window::new(Duration::from_secs(10));
        window.add(Duration::from_millis(500), true, false);
        window.add(Duration::from_millis(9_900), false, true);
        let all = Tally {
            calls: 2,
            failed: 1,
            slow: 1,
        };
        assert_eq!(window.tally(Duration::from_millis(9_999)), all);
        let rest = window.tally(Duration::from_millis(10_000));
        assert_eq!((rest.calls, rest.failed), (1, 0));
        window.add(Duration::from_secs(20), true, false);
        assert_eq!(window.tally(Duration::from_secs(20)).calls, 1);
    }
}
