//! The one place that reads the time.
//!
//! Code that decides takes a [`Timestamp`] as an argument; code that drives holds a [`Clock`].
//! Tests use [`Clock::manual`] and move it by hand.

#![expect(clippy::disallowed_methods, reason = "this is where the time is read")]

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// A point in time, UTC, with microseconds kept in every store.
pub type Timestamp = jiff::Timestamp;

/// Where the time comes from. Cheap to clone; clones of a manual clock move together.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    manual_us: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self { manual_us: None }
    }

    /// A clock that stands at `start` until it is moved.
    pub fn manual(start: Timestamp) -> Self {
        Self {
            manual_us: Some(Arc::new(AtomicI64::new(start.as_microsecond()))),
        }
    }

    /// The time now, cut to microseconds, which is what both databases keep.
    pub fn now(&self) -> Timestamp {
        let us = match &self.manual_us {
            Some(manual) => manual.load(Ordering::SeqCst),
            None => Timestamp::now().as_microsecond(),
        };
        Timestamp::from_microsecond(us).unwrap_or(Timestamp::MAX)
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.now().as_millisecond()
    }

    /// Time since a fixed moment. Never goes back, whatever is done to the machine's clock: for
    /// deadlines and windows within one process.
    pub fn steady(&self) -> Duration {
        static START: LazyLock<Stopwatch> = LazyLock::new(Stopwatch::start);
        match &self.manual_us {
            Some(manual) => {
                let us = manual.load(Ordering::SeqCst);
                Duration::from_micros(u64::try_from(us).unwrap_or(0))
            }
            None => START.elapsed(),
        }
    }

    /// Moves a manual clock forward. The machine's clock cannot be moved and ignores this.
    pub fn advance(&self, by: Duration) {
        if let Some(manual) = &self.manual_us {
            let us = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
            manual.fetch_add(us, Ordering::SeqCst);
        }
    }
}

/// Measures how long something takes. Never goes back, whatever the machine's clock does.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    started: Instant,
}

impl Stopwatch {
    /// Starts measuring.
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Milliseconds since the start.
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_manual_clock_move_together() {
        let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
        let other = clock.clone();
        other.advance(Duration::from_millis(1500));
        assert_eq!(clock.now_ms(), 1_700_000_001_500);
        let before = clock.steady();
        other.advance(Duration::from_micros(7));
        assert_eq!(clock.steady() - before, Duration::from_micros(7));
    }
}
