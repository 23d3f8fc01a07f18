//! Bulk work rests for a moment between its reads while urgent entries come.
//!
//! A server that never sleeps keeps its core, and the scheduler often wakes the sender and the
//! reader of an urgent entry on just that core, where they wait for a time slice of 3 ms.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ratebox_kit::Timestamp;

/// Entries of bulk work between two rests.
const AFTER: usize = 512;

/// How long a rest is.
pub(crate) const TIME: Duration = Duration::from_millis(1);

/// Urgent entries come as long as one came this lately.
const LATELY: Duration = Duration::from_secs(1);

/// What bulk work did since its last rest.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    read: usize,
}

/// When something urgent came last, in milliseconds of the steady clock.
#[derive(Debug)]
pub(crate) struct Seen(AtomicI64);

// === impl Rest ===

impl Rest {
    /// So many entries were read.
    pub(crate) fn after(&mut self, entries: usize) {
        self.read += entries;
    }

    /// Whether it is time for one; then the next is far again.
    pub(crate) fn is_due(&mut self, urgent_lately: impl FnOnce() -> bool) -> bool {
        if self.read < AFTER {
            return false;
        }
        self.read = 0;
        urgent_lately()
    }
}

// === impl Seen ===

impl Default for Seen {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

impl Seen {
    pub(crate) fn at(&self, now: Timestamp) {
        self.0.store(now.as_millisecond(), Ordering::Relaxed);
    }

    pub(crate) fn lately(&self, now: Timestamp) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        let ago = now.as_millisecond().saturating_sub(last);
        u128::try_from(ago).is_ok_and(|ago| ago < LATELY.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_work_rests_now_and_then_and_only_while_urgent_entries_come() {
        let mut rest = Rest::default();
        let mut rests = |urgent: bool| {
            let reads = (0..32).filter(|_| {
                rest.after(64);
                rest.is_due(|| urgent)
            });
            reads.count()
        };
        assert_eq!((rests(false), rests(true)), (0, 32 * 64 / AFTER));
    }

    #[test]
    fn urgent_entries_come_until_none_has_come_for_a_second() {
        let seen = Seen::default();
        let at = |ms| Timestamp::from_millisecond(ms).unwrap();
        assert!(!seen.lately(at(0)));
        seen.at(at(5_000));
        let lately = [5_000, 5_999, 6_000, 4_000].map(|ms| seen.lately(at(ms)));
        assert_eq!(lately, [true, true, false, false]);
    }
}
