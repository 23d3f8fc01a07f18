//! The one place that reads the time.
//!
//! Code that decides takes a [`Timestamp`] as an argument; code that drives holds a [`Clock`].
//! Tests use [`Clock::manual`] and move it by hand.

#![expect(clippy::disallowed_methods, reason = "this is where the time is read")]

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in time, UTC, with microseconds kept in every store.
pub type Timestamp = jiff::Timestamp;

/// Where the time comes from. Cheap to clone; clones of a manual clock move together.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    manual: Option<Arc<Manual>>,
}

/// A clock that is moved by hand, and by how much it was set right or wrong.
#[derive(Debug)]
struct Manual {
    steady_us: AtomicI64,
    jumped_us: AtomicI64,
}

/// How far [`Clock::at_most_ms`] may be ahead. The kernel notes the time at each tick, every 1 to
/// 10 ms; when the processor that does so for all is held up, others take over after five ticks.
const NOTED_MS_MAX: i64 = 100;

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self { manual: None }
    }

    /// A clock that stands at `start` until it is moved.
    pub fn manual(start: Timestamp) -> Self {
        let manual = Manual {
            steady_us: AtomicI64::new(start.as_microsecond()),
            jumped_us: AtomicI64::new(0),
        };
        Self {
            manual: Some(Arc::new(manual)),
        }
    }

    /// The time now, cut to microseconds, which is what both databases keep.
    pub fn now(&self) -> Timestamp {
        let us = match &self.manual {
            Some(manual) => {
                let jumped_us = manual.jumped_us.load(Ordering::SeqCst);
                manual.steady_us.load(Ordering::SeqCst) + jumped_us
            }
            None => Timestamp::now().as_microsecond(),
        };
        Timestamp::from_microsecond(us).unwrap_or(Timestamp::MAX)
    }

    /// A time that goes on evenly, whoever sets the machine's clock: for waits within a process. It
    /// is the time of the first call, plus what has passed since; never store it or tell it.
    pub fn steady(&self) -> Timestamp {
        static FIRST: OnceLock<(Timestamp, Instant)> = OnceLock::new();
        if let Some(manual) = &self.manual {
            let us = manual.steady_us.load(Ordering::SeqCst);
            return Timestamp::from_microsecond(us).unwrap_or(Timestamp::MAX);
        }
        let (at, since) = FIRST.get_or_init(|| (Timestamp::now(), Instant::now()));
        at.saturating_add(since.elapsed()).unwrap_or(*at)
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        if self.manual.is_some() {
            return self.now().as_millisecond();
        }
        // On the way of every cached read: without the calendar's checks.
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
    }

    /// Milliseconds since 1970 that are not over yet, by at most a tenth of a second: whatever ends
    /// after that has not ended. A manual clock says exactly what [`Clock::now_ms`] does.
    ///
    /// For what runs millions of times a second. The exact time is read with a fence, behind which
    /// the processor fetches nothing ahead; this is a plain read of what the kernel noted at its last
    /// tick, and costs a tenth.
    pub fn at_most_ms(&self) -> i64 {
        if self.manual.is_some() {
            return self.now_ms();
        }
        self.noted_ms()
    }

    #[cfg(target_os = "linux")]
    fn noted_ms(&self) -> i64 {
        use rustix::time::{ClockId, clock_gettime};

        let noted = clock_gettime(ClockId::RealtimeCoarse);
        noted.tv_sec * 1_000 + noted.tv_nsec / 1_000_000 + NOTED_MS_MAX
    }

    #[cfg(not(target_os = "linux"))]
    fn noted_ms(&self) -> i64 {
        self.now_ms() + NOTED_MS_MAX
    }

    /// The same as a length since a fixed moment: for windows and deadlines of small parts.
    pub fn steady_time(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.steady().as_microsecond()).unwrap_or(0))
    }

    /// Moves a manual clock forward. The machine's clock cannot be moved and ignores this.
    pub fn advance(&self, by: Duration) {
        if let Some(manual) = &self.manual {
            let us = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
            manual.steady_us.fetch_add(us, Ordering::SeqCst);
        }
    }

    /// Sets a manual clock forward or back by so many seconds, as an administrator might: no time
    /// passes by that. The machine's clock ignores it.
    pub fn jump(&self, seconds: i64) {
        if let Some(manual) = &self.manual {
            let us = seconds.saturating_mul(1_000_000);
            manual.jumped_us.fetch_add(us, Ordering::SeqCst);
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
        let before = clock.steady_time();
        other.advance(Duration::from_micros(7));
        assert_eq!(clock.steady_time() - before, Duration::from_micros(7));
    }

    #[test]
    fn what_is_not_over_yet_is_never_before_now_and_little_after() {
        let clock = Clock::system();
        for _ in 0..1_000_000 {
            let now_ms = clock.now_ms();
            let ahead_ms = clock.at_most_ms() - now_ms;
            assert!(ahead_ms >= 0, "{ahead_ms} ms behind");
            if clock.now_ms() == now_ms {
                assert!(ahead_ms <= NOTED_MS_MAX, "{ahead_ms} ms ahead");
            }
        }
        let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
        assert_eq!(clock.at_most_ms(), clock.now_ms());
    }

    #[test]
    fn a_jump_changes_the_time_and_not_the_steady_one() {
        let start = Timestamp::from_second(1_700_000_000).unwrap();
        let clock = Clock::manual(start);
        clock.jump(-3_600);
        assert_eq!(clock.now().as_second(), start.as_second() - 3_600);
        assert_eq!(clock.steady(), start);
        clock.advance(Duration::from_secs(5));
        assert_eq!(clock.steady().as_second(), start.as_second() + 5);
        let (first, second) = (Clock::system().steady(), Clock::system().steady());
        assert!(first <= second);
    }
}
