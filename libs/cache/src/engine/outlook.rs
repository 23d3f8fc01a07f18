//! Whether the next read of the shared tier is likely to find nothing.
//!
//! A read that finds its entry is one plain `GET`. One that does not goes on to ask for the right to
//! fill, a second trip that its reader waits for. Where nearly all reads find nothing, both are asked for in
//! the first trip; a right that was not needed is given back behind the reader.

use std::sync::atomic::{AtomicU64, Ordering};

/// Of the last 64 reads so many found nothing: three of four.
const MISSES_MIN: u32 = 48;

/// The last reads of the tier, a bit each: set for one that found nothing.
#[derive(Debug, Default)]
pub(crate) struct Outlook(AtomicU64);

// === impl Outlook ===

impl Outlook {
    /// A read of the tier found what it was for, or not. Of two at the same time one may be lost.
    pub(super) fn note(&self, found: bool) {
        let last = self.0.load(Ordering::Relaxed);
        self.0
            .store(last << 1 | u64::from(!found), Ordering::Relaxed);
    }

    /// Whether the next one is likely to find nothing.
    pub(super) fn is_poor(&self) -> bool {
        self.0.load(Ordering::Relaxed).count_ones() >= MISSES_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_poor_after_many_misses_and_good_again_after_some_hits() {
        let outlook = Outlook::default();
        assert!(!outlook.is_poor());
        (0..MISSES_MIN).for_each(|_| outlook.note(false));
        assert!(outlook.is_poor());
        (0..16).for_each(|_| outlook.note(true));
        assert!(outlook.is_poor());
        outlook.note(true);
        assert!(!outlook.is_poor());
    }
}
