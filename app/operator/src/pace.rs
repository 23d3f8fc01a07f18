//! So many a second, not more.

use std::time::Duration;

use ratebox_kit::Stopwatch;

/// Spreads work evenly over time.
#[derive(Debug)]
pub(crate) struct Pace {
    per_second: u32,
    done: u64,
    watch: Stopwatch,
}

// === impl Pace ===

impl Pace {
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            per_second: per_second.max(1),
            done: 0,
            watch: Stopwatch::start(),
        }
    }

    /// How many to do in one go: a quarter of a second's worth.
    pub(crate) fn chunk(&self, max: usize) -> usize {
        let quarter = usize::try_from(self.per_second / 4).unwrap_or(max);
        quarter.clamp(1, max)
    }

    /// How long to wait after `count` more were done.
    pub(crate) fn after(&mut self, count: usize) -> Duration {
        self.done += count as u64;
        due(self.done, self.per_second).saturating_sub(self.watch.elapsed())
    }
}

/// When that many may be done at the earliest.
fn due(done: u64, per_second: u32) -> Duration {
    Duration::from_micros(done.saturating_mul(1_000_000) / u64::from(per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_spread_over_time() {
        assert_eq!(due(250, 100), Duration::from_millis(2_500));
        let pace = |per_second| Pace::new(per_second).chunk(16);
        assert_eq!([pace(0), pace(1), pace(20), pace(1_000)], [1, 1, 5, 16]);
    }
}
