//! How many batches a consumer works on at the same time, by backlog and handler time. Pure.

use std::time::Duration;

/// Between so many and so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaling {
    /// At least.
    pub min: usize,
    /// At most.
    pub max: usize,
}

/// One more batch at a time must bring at least this share of what a batch brought before, or it
/// is taken back: the handler waits for something that all batches share.
const GAIN_MIN: f64 = 0.2;

/// Looks without a new try after one that brought nothing.
const LOOKS_OF_REST: u32 = 20;

/// What was measured since the last look.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measured {
    /// Entries that were worked on.
    pub(crate) worked: u64,
    /// Since the last look.
    pub(crate) elapsed: Duration,
    /// The last read brought as much as it asked for.
    pub(crate) backlog: bool,
    /// A batch waited for a slot.
    pub(crate) full: bool,
}

/// Tries one more while there is a backlog and every slot is in use, keeps it when more got done,
/// and takes one away when slots stay empty.
#[derive(Debug)]
pub(crate) struct Scaler {
    scaling: Scaling,
    limit: usize,
    /// Entries a second before the last step up.
    before: Option<f64>,
    rest: u32,
}

// === impl Scaler ===

impl Scaler {
    pub(crate) fn new(scaling: Scaling) -> Self {
        let min = scaling.min.max(1);
        let max = scaling.max.max(min);
        Self {
            scaling: Scaling { min, max },
            limit: min,
            before: None,
            rest: 0,
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Learns and says how many from now on.
    pub(crate) fn look(&mut self, measured: Measured) -> usize {
        let seconds = measured.elapsed.as_secs_f64();
        let rate = measured.worked as f64 / seconds.max(0.001);
        self.rest = self.rest.saturating_sub(1);
        if let Some(before) = self.before.take() {
            let of_one = before / (self.limit - 1).max(1) as f64;
            let busy = measured.backlog && measured.full;
            if busy && rate < before + of_one * GAIN_MIN {
                self.limit -= 1;
                self.rest = LOOKS_OF_REST;
                return self.limit;
            }
        }
        if measured.backlog && measured.full {
            if self.limit < self.scaling.max && self.rest == 0 && measured.worked > 0 {
                self.before = Some(rate);
                self.limit += 1;
            }
        } else if !measured.full && self.limit > self.scaling.min {
            self.limit -= 1;
        }
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(worked: u64, busy: bool) -> Measured {
        Measured {
            worked,
            elapsed: Duration::from_secs(1),
            backlog: busy,
            full: busy,
        }
    }

    fn scaler() -> Scaler {
        Scaler::new(Scaling { min: 1, max: 8 })
    }

    #[test]
    fn it_grows_while_more_batches_do_more_and_stops_at_the_maximum() {
        let mut scaler = scaler();
        for _ in 0..20 {
            let worked = 100 * scaler.limit() as u64;
            scaler.look(measured(worked, true));
        }
        assert_eq!(scaler.limit(), 8);
    }

    #[test]
    fn it_stays_where_one_more_brings_nothing() {
        let mut scaler = scaler();
        let mut most = 0;
        for _ in 0..15 {
            // Whatever the handler waits for serves three at a time.
            let worked = 100 * scaler.limit().min(3) as u64;
            most = most.max(scaler.look(measured(worked, true)));
        }
        assert_eq!((scaler.limit(), most), (3, 4));
    }

    #[test]
    fn it_shrinks_to_the_minimum_without_work() {
        let mut scaler = scaler();
        for _ in 0..5 {
            let worked = 100 * scaler.limit() as u64;
            scaler.look(measured(worked, true));
        }
        assert!(scaler.limit() > 3);
        for _ in 0..10 {
            scaler.look(measured(0, false));
        }
        assert_eq!(scaler.limit(), 1);
    }

    #[test]
    fn a_handler_that_finishes_nothing_in_a_look_is_no_reason_to_grow() {
        let mut scaler = scaler();
        assert_eq!(scaler.look(measured(0, true)), 1);
    }
}
