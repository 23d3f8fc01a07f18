//! How long to wait before the next try: exponential with full jitter.
//!
//! Full jitter (a uniform draw from zero to the exponential bound) spreads a crowd of retries
//! best; see Marc Brooker, "Exponential Backoff and Jitter", 2015.

use std::time::Duration;

/// A schedule of growing waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The bound of the first wait.
    pub first: Duration,
    /// No wait is longer than this.
    pub max: Duration,
}

impl Backoff {
    /// The longest wait before try number `attempt + 1`; `attempt` counts the failures so far,
    /// from 1.
    pub fn bound(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(32);
        self.first
            .saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX))
            .min(self.max)
    }

    /// The wait for a draw from `0.0..1.0`; decisions take their randomness as an argument.
    pub fn delay(&self, attempt: u32, draw: f64) -> Duration {
        self.bound(attempt).mul_f64(draw.clamp(0.0, 1.0))
    }

    /// The wait for a draw of this process' generator.
    pub fn jittered(&self, attempt: u32) -> Duration {
        self.delay(attempt, fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_until_the_maximum() {
        let backoff = Backoff {
            first: Duration::from_secs(2),
            max: Duration::from_secs(60),
        };
        let bounds: Vec<u64> = (1..=7).map(|n| backoff.bound(n).as_secs()).collect();
        assert_eq!(bounds, [2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.bound(u32::MAX).as_secs(), 60);
    }

    #[test]
    fn full_jitter_draws_from_zero_to_the_bound() {
        let backoff = Backoff {
            first: Duration::from_secs(2),
            max: Duration::from_secs(60),
        };
        assert_eq!(backoff.delay(3, 0.0), Duration::ZERO);
        assert_eq!(backoff.delay(3, 0.5), Duration::from_secs(4));
        assert!(backoff.jittered(3) <= Duration::from_secs(8));
    }
}
