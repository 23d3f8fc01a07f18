//! Which time a store or an engine goes by: the machine's, or that of tokio's timers, which stands
//! still and jumps where a test says so.

use std::time::Duration;

use ratebox_kit::{Clock, Timestamp};
use tokio::time::Instant;

/// A source of time. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Time(Source);

#[derive(Clone, Debug)]
enum Source {
    Clock(Clock),
    Timers { start: Timestamp, since: Instant },
}

// === impl Time ===

impl Time {
    /// The machine's time.
    pub fn system() -> Self {
        Self(Source::Clock(Clock::system()))
    }

    /// The time that this clock tells.
    pub fn clock(clock: Clock) -> Self {
        Self(Source::Clock(clock))
    }

    /// `start`, and then as long as tokio's timers say has passed: with paused time, virtual.
    pub fn timers(start: Timestamp) -> Self {
        let since = Instant::now();
        Self(Source::Timers { start, since })
    }

    /// Now, cut to microseconds.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::Clock(clock) => clock.now(),
            Source::Timers { start, since } => after(*start, since.elapsed()),
        }
    }

    /// How long until `then`; zero when it has passed.
    pub(crate) fn until(&self, then: Timestamp) -> Duration {
        let us = then.as_microsecond() - self.now().as_microsecond();
        Duration::from_micros(u64::try_from(us).unwrap_or(0))
    }
}

/// A time and a while, cut to microseconds; the end of time where there is none so late.
pub(crate) fn after(time: Timestamp, wait: Duration) -> Timestamp {
    let wait_us = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
    let us = time.as_microsecond().saturating_add(wait_us);
    Timestamp::from_microsecond(us).unwrap_or(Timestamp::MAX)
}
