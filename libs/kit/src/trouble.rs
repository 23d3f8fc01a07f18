//! A failure that comes again and again: whether it lasts, and when the log is told of it.
//!
//! Whoever tries in a loop notes each failure and each success here. What is said, and how loudly, is
//! the loop's business.

use std::time::Duration;

/// How often the log is told while it lasts, or while it comes and goes.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// A failure that is over by then was a blink: a server that was started anew, a new primary.
const LASTS_AFTER: Duration = Duration::from_secs(2);

/// Failures in a row, and what the log knows of them. Times are any steady length since a fixed
/// moment.
#[derive(Clone, Debug, Default)]
pub struct Trouble {
    /// Failures in a row.
    row: u32,
    /// When the first of them was.
    since: Duration,
    /// Failures that the log was not told of.
    untold: u64,
    told_at: Option<Duration>,
    /// The log knows of the row that goes on.
    is_known: bool,
}

/// What the log is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spell {
    /// Failures since the log was told last; at the end, those of the last row.
    pub failures: u64,
    /// Since the first failure in a row.
    pub lasted: Duration,
}

// === impl Trouble ===

impl Trouble {
    /// It failed. Answers what the log should be told now, if anything.
    pub fn failed(&mut self, now: Duration) -> Option<Spell> {
        if self.row == 0 {
            self.since = now;
        }
        self.row = self.row.saturating_add(1);
        self.untold = self.untold.saturating_add(1);
        let is_due = |at: Duration| now.saturating_sub(at) >= TELL_EVERY;
        if !self.told_at.is_none_or(is_due) {
            return None;
        }
        self.told_at = Some(now);
        self.is_known = true;
        Some(Spell {
            failures: std::mem::take(&mut self.untold),
            lasted: now.saturating_sub(self.since),
        })
    }

    /// It worked. Answers what the log should be told now: nothing where it knows of no failure.
    pub fn ended(&mut self, now: Duration) -> Option<Spell> {
        let spell = Spell {
            failures: u64::from(std::mem::take(&mut self.row)),
            lasted: now.saturating_sub(self.since),
        };
        std::mem::take(&mut self.is_known).then_some(spell)
    }

    /// Nobody tries any more: the next failure begins a new row. The log is not told that it works.
    pub fn rests(&mut self) {
        self.row = 0;
    }

    /// Failures in a row; 0 when it worked the last time.
    pub fn row(&self) -> u32 {
        self.row
    }

    /// It failed more than once in a row, for seconds.
    pub fn lasts(&self, now: Duration) -> bool {
        self.row > 1 && now.saturating_sub(self.since) >= LASTS_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_log_is_told_at_once_then_once_a_minute_and_at_the_end() {
        let mut trouble = Trouble::default();
        let told: Vec<Spell> = (0..=240)
            .filter_map(|half| trouble.failed(MS * 500 * half))
            .collect();
        let spell = |failures, seconds| Spell {
            failures,
            lasted: Duration::from_secs(seconds),
        };
        assert_eq!(told, [spell(1, 0), spell(120, 60), spell(120, 120)]);
        assert_eq!(trouble.ended(MS * 121_000), Some(spell(241, 121)));
        assert_eq!(trouble.ended(MS * 122_000), None, "it is told once");
    }

    #[test]
    fn what_comes_and_goes_is_told_no_more_often() {
        let mut trouble = Trouble::default();
        let (mut begun, mut ended, mut failures) = (0, 0, 0);
        for tenth in 0..6_000 {
            let now = MS * 100 * tenth;
            if let Some(spell) = trouble.failed(now) {
                begun += 1;
                failures += spell.failures;
            }
            ended += u32::from(trouble.ended(now + MS).is_some());
        }
        assert_eq!((begun, ended), (10, 10), "in ten minutes");
        assert_eq!(
            failures, 5_401,
            "each is counted, those of the last minute later"
        );
    }

    #[test]
    fn it_lasts_after_two_failures_and_two_seconds_until_it_works() {
        let mut trouble = Trouble::default();
        trouble.failed(Duration::ZERO);
        assert!(!trouble.lasts(MS * 9_000), "one may have taken long");
        trouble.failed(MS * 1_900);
        assert!(!trouble.lasts(MS * 1_900));
        trouble.failed(MS * 2_000);
        assert!(trouble.lasts(MS * 2_000));
        assert_eq!(trouble.row(), 3);
        trouble.ended(MS * 2_100);
        assert!(!trouble.lasts(MS * 9_000));
        trouble.failed(MS * 9_000);
        trouble.failed(MS * 20_000);
        assert!(trouble.lasts(MS * 20_000));
        trouble.rests();
        trouble.failed(MS * 30_000);
        assert!(!trouble.lasts(MS * 39_000), "a new row began");
    }
}
