//! How fast the handler works, and how many entries are therefore read ahead.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Measured over all batches of a consumer.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Running mean of nanoseconds an entry; 0 before the first batch.
    entry_ns: AtomicU64,
    /// Entries that were worked on.
    worked: AtomicU64,
}

// === impl Pace ===

impl Pace {
    /// Learns from a batch.
    pub(crate) fn learn(&self, entries: usize, took: Duration) {
        let entries = entries.max(1) as u64;
        self.worked.fetch_add(entries, Ordering::Relaxed);
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let new = (took_ns / entries).max(1);
        let old = self.entry_ns.load(Ordering::Relaxed);
        // Batches that end at the same moment may overwrite each other: it is a mean.
        let mean = if old == 0 {
            new
        } else {
            old - old / 4 + new / 4
        };
        self.entry_ns.store(mean.max(1), Ordering::Relaxed);
    }

    /// Entries that one batch gets done in this time; all before anything is known.
    pub(crate) fn fitting(&self, time: Duration) -> usize {
        let entry_ns = self.entry_ns.load(Ordering::Relaxed);
        if entry_ns == 0 {
            return usize::MAX;
        }
        let fitting = time.as_nanos() / u128::from(entry_ns);
        usize::try_from(fitting).unwrap_or(usize::MAX).max(1)
    }

    /// Entries that were worked on so far.
    pub(crate) fn worked(&self) -> u64 {
        self.worked.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_handler_gets_few_entries_and_a_fast_one_many() {
        let pace = Pace::default();
        let second = Duration::from_secs(1);
        assert_eq!(pace.fitting(second), usize::MAX);
        pace.learn(10, Duration::from_secs(1));
        assert_eq!(pace.fitting(second), 10);
        for _ in 0..40 {
            pace.learn(1_000, Duration::from_millis(10));
        }
        assert!(pace.fitting(second) > 50_000);
        for _ in 0..40 {
            pace.learn(1, Duration::from_secs(5));
        }
        assert_eq!((pace.fitting(second), pace.worked()), (1, 40_050));
    }
}
