//! An expression in a time zone: from what the clock on the wall shows to moments in time.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use ratebox_kit::Timestamp;

use super::Expression;
use crate::Error;

/// Matches on the wall clock that may belong to moments which are over already: every second of an
/// hour that comes twice, and some.
const LOOKS_MAX: usize = 20_000;

/// Changes of the clock that one search may pass: some hundred years.
const TURNS_MAX: usize = 1_000;

/// How far back is looked for the newest moments, from near to far, so that a schedule of seconds
/// does not walk through years.
const WINDOWS: [Duration; 4] = [
    Duration::from_secs(60 * 60),
    Duration::from_secs(24 * 60 * 60),
    Duration::from_secs(32 * 24 * 60 * 60),
    Duration::from_secs(367 * 24 * 60 * 60),
];

/// When something is to happen: a cron expression in a time zone.
#[derive(Clone, Debug)]
pub struct Schedule {
    expression: Expression,
    zone: TimeZone,
}

// === impl Schedule ===

impl Schedule {
    /// Reads an expression and the name of a zone, such as `Europe/Berlin` or `UTC`.
    ///
    /// # Errors
    /// When one of them is unknown.
    pub fn new(expression: &str, zone: &str) -> Result<Self, Error> {
        let found = TimeZone::get(zone);
        let zone = found.map_err(|_| Error::refused(format!("unknown time zone `{zone}`")))?;
        let expression = expression.parse()?;
        Ok(Self { expression, zone })
    }

    /// The first moment after `after`. Moments are whole seconds and grow.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        if self.expression.names_hours() {
            self.next_of_days(after)
        } else {
            self.next_on_the_clock(after)
        }
    }

    /// The newest moments after `after` and not after `now`, at most `max` of them, oldest first.
    pub fn between(&self, after: Timestamp, now: Timestamp, max: usize) -> Vec<Timestamp> {
        for window in WINDOWS {
            let from = now.checked_sub(window).unwrap_or(after).max(after);
            let found = self.newest(from, now, max);
            if found.len() >= max || from == after {
                return found;
            }
        }
        self.newest(after, now, max)
    }

    fn newest(&self, after: Timestamp, now: Timestamp, max: usize) -> Vec<Timestamp> {
        let mut found = std::collections::VecDeque::new();
        let mut last = after;
        while let Some(next) = self.next(last).filter(|next| *next <= now) {
            if found.len() == max {
                found.pop_front();
            }
            found.push_back(next);
            last = next;
        }
        found.into()
    }

    /// Each match of a day happens once, whatever is done to the clock.
    fn next_of_days(&self, after: Timestamp) -> Option<Timestamp> {
        let mut from = self.zone.to_datetime(after);
        for _ in 0..LOOKS_MAX {
            let shown = self.expression.next(from)?;
            let moment = self.moment(shown)?;
            if moment > after {
                return Some(moment);
            }
            from = shown.checked_add(Duration::from_secs(1)).ok()?;
        }
        None
    }

    /// When the clock shows this; the first time where it does so twice, the end of the gap where
    /// it never does.
    fn moment(&self, shown: DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(shown).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(shown).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(shown).ok(),
            AmbiguousOffset::Gap { before, .. } => {
                let within = before.to_timestamp(shown).ok()?;
                let beyond = within.checked_add(Duration::from_secs(1)).ok()?;
                let turn = self.zone.preceding(beyond).next()?;
                Some(turn.timestamp())
            }
        }
    }

    /// Whatever the clock shows counts, as often as it shows it.
    fn next_on_the_clock(&self, after: Timestamp) -> Option<Timestamp> {
        let mut from = Timestamp::from_second(after.as_second().checked_add(1)?).ok()?;
        for _ in 0..TURNS_MAX {
            let offset = self.zone.to_offset(from);
            let shown = self.expression.next(offset.to_datetime(from))?;
            let moment = offset.to_timestamp(shown).ok()?;
            let turn = self
                .zone
                .following(from)
                .next()
                .map(|turn| turn.timestamp());
            match turn.filter(|turn| *turn <= moment) {
                Some(turn) => from = turn,
                None => return Some(moment),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expression: &str, zone: &str, after: &str, expected: &[&str]) {
        let schedule = Schedule::new(expression, zone).unwrap();
        let mut last: Timestamp = after.parse().unwrap();
        let mut found = Vec::new();
        for _ in expected {
            last = schedule.next(last).unwrap();
            found.push(last.to_string());
        }
        assert_eq!(found, expected, "{expression} in {zone}");
    }

    #[test]
    fn a_daily_hour_that_is_skipped_fires_when_it_would_have_begun() {
        // Berlin, 29 March 2026: 01:59:59 +01 is followed by 03:00:00 +02, which is 01:00 UTC.
        check(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-27T12:00:00Z",
            &[
                "2026-03-28T01:30:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-30T00:30:00Z",
            ],
        );
        // Several moments of the skipped hour are one.
        check(
            "0,15,30 2,3 * * *",
            "Europe/Berlin",
            "2026-03-29T00:00:00Z",
            &[
                "2026-03-29T01:00:00Z",
                "2026-03-29T01:15:00Z",
                "2026-03-29T01:30:00Z",
                "2026-03-30T00:00:00Z",
            ],
        );
    }

    #[test]
    fn a_daily_hour_that_comes_twice_fires_the_first_time() {
        // Berlin, 25 October 2026: 02:59:59 +02 is followed by 02:00:00 +01, at 01:00 UTC.
        check(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        );
        // Also when asked in the second of the two hours.
        check(
            "*/30 2 * * *",
            "Europe/Berlin",
            "2026-10-25T01:10:00Z",
            &["2026-10-26T01:00:00Z", "2026-10-26T01:30:00Z"],
        );
    }

    #[test]
    fn a_schedule_of_every_hour_goes_by_the_clock() {
        // Nothing in the skipped hour: 01:30 +01, then 03:00 +02.
        check(
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-03-29T00:00:00Z",
            &[
                "2026-03-29T00:30:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-29T01:30:00Z",
            ],
        );
        // Both of the doubled hours.
        check(
            "30 * * * *",
            "Europe/Berlin",
            "2026-10-24T23:45:00Z",
            &[
                "2026-10-25T00:30:00Z",
                "2026-10-25T01:30:00Z",
                "2026-10-25T02:30:00Z",
            ],
        );
        // Half an hour: Lord Howe Island, 5 April 2026, 02:00 +11 becomes 01:30 +10:30.
        check(
            "45 * * * *",
            "Australia/Lord_Howe",
            "2026-04-04T14:00:00Z",
            &[
                "2026-04-04T14:45:00Z",
                "2026-04-04T15:15:00Z",
                "2026-04-04T16:15:00Z",
            ],
        );
    }

    #[test]
    fn a_day_that_never_was_is_made_up_for_when_the_clock_goes_on() {
        // Samoa had no 30 December 2011: midnight after the 29th was the 31st.
        check(
            "0 12 * * *",
            "Pacific/Apia",
            "2011-12-29T00:00:00Z",
            &[
                "2011-12-29T22:00:00Z",
                "2011-12-30T10:00:00Z",
                "2011-12-30T22:00:00Z",
            ],
        );
    }

    #[test]
    fn the_newest_moments_are_found_without_walking_through_years() {
        let every_second = Schedule::new("* * * * * *", "UTC").unwrap();
        let (long_ago, now) = ("1990-01-01T00:00:00Z", "2026-01-01T00:00:00Z");
        let (long_ago, now) = (long_ago.parse().unwrap(), now.parse().unwrap());
        let found = every_second.between(long_ago, now, 2);
        let texts: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["2025-12-31T23:59:59Z", "2026-01-01T00:00:00Z"]);
        let yearly = Schedule::new("@yearly", "UTC").unwrap();
        assert_eq!(yearly.between(long_ago, now, 100).len(), 36);
        assert!(yearly.between(now, now, 9).is_empty());
    }

    #[test]
    fn an_unknown_zone_is_refused_by_name() {
        let error = Schedule::new("@daily", "Europe/Atlantis").unwrap_err();
        assert!(error.to_string().contains("Europe/Atlantis"));
    }
}
