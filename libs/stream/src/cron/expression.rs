//! Cron expressions: five fields, or six with seconds first. Pure: no time zone, no clock.

use std::str::FromStr;

use jiff::civil::{Date, DateTime, Time, date};

use crate::Error;

/// Days that are looked at for the next match: 29 February on a Monday comes every 28 years, over
/// a year like 2100 every 40.
const DAYS_MAX: usize = 366 * 41;

/// Numbers of a field, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Set(u64);

/// A cron expression.
///
/// `minute hour day-of-month month day-of-week`, or with `second` before them. A field is `*`, a
/// number, a range `a-b`, any of them with a step `/n`, or a list of such; months and weekdays
/// have English names of three letters, and Sunday is 0 or 7. Where both days are given, either
/// may match, as cron has it. `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly` are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    seconds: Set,
    minutes: Set,
    hours: Set,
    days: Set,
    months: Set,
    weekdays: Set,
    /// Day of month or of week is `*`, so both must match.
    both_days: bool,
    names_hours: bool,
}

/// A field: what it is called, its range, and names for its numbers.
struct Field {
    name: &'static str,
    min: u8,
    max: u8,
    words: &'static [&'static str],
}

const SECOND: Field = field("second", 0, 59, &[]);
const MINUTE: Field = field("minute", 0, 59, &[]);
const HOUR: Field = field("hour", 0, 23, &[]);
const DAY: Field = field("day of month", 1, 31, &[]);
const MONTH: Field = field(
    "month",
    1,
    12,
    &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
);
const WEEKDAY: Field = field(
    "day of week",
    0,
    7,
    &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
);

const fn field(name: &'static str, min: u8, max: u8, words: &'static [&'static str]) -> Field {
    Field {
        name,
        min,
        max,
        words,
    }
}

// === impl Expression ===

impl Expression {
    /// The first match at or after a moment on the clock.
    pub fn next(&self, from: DateTime) -> Option<DateTime> {
        let mut day = from.date();
        let mut earliest = (from.hour(), from.minute(), from.second());
        for _ in 0..DAYS_MAX {
            if self.matches(day)
                && let Some(time) = self.next_time(earliest)
            {
                return Some(day.to_datetime(time));
            }
            day = day.tomorrow().ok()?;
            earliest = (0, 0, 0);
        }
        None
    }

    /// Whether it names hours, rather than going by `*`: then it belongs to days, and a day has
    /// each of its moments once.
    pub fn names_hours(&self) -> bool {
        self.names_hours
    }

    fn matches(&self, day: Date) -> bool {
        let of_month = self.days.has(day.day());
        let of_week = self.weekdays.has(day.weekday().to_sunday_zero_offset());
        let is_day = if self.both_days {
            of_month && of_week
        } else {
            of_month || of_week
        };
        is_day && self.months.has(day.month())
    }

    /// The first time of a matching day at or after one.
    fn next_time(&self, (hour, minute, second): (i8, i8, i8)) -> Option<Time> {
        for h in self.hours.from(hour) {
            let minute = if h == hour { minute } else { 0 };
            for m in self.minutes.from(minute) {
                let second = if h == hour && m == minute { second } else { 0 };
                if let Some(s) = self.seconds.from(second).next() {
                    return Some(Time::constant(h, m, s, 0));
                }
            }
        }
        None
    }
}

impl FromStr for Expression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = match text.trim() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            other => other,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let (second, rest) = match fields.as_slice() {
            [second, rest @ ..] if rest.len() == 5 => (*second, rest),
            rest if rest.len() == 5 => ("0", rest),
            other => {
                let count = other.len();
                let what = format!("cron expression `{text}` has {count} fields, not 5 or 6");
                return Err(Error::refused(what));
            }
        };
        let [minute, hour, day, month, weekday] = rest else {
            unreachable!("five fields were counted")
        };
        let mut weekdays = WEEKDAY.read(weekday)?;
        if weekdays.has(7) {
            weekdays = Set(weekdays.0 & !(1 << 7) | 1);
        }
        let expression = Self {
            seconds: SECOND.read(second)?,
            minutes: MINUTE.read(minute)?,
            hours: HOUR.read(hour)?,
            days: DAY.read(day)?,
            months: MONTH.read(month)?,
            weekdays,
            both_days: day.starts_with('*') || weekday.starts_with('*'),
            names_hours: !hour.starts_with('*'),
        };
        match expression.next(date(2000, 1, 1).at(0, 0, 0, 0)) {
            Some(_) => Ok(expression),
            None => Err(Error::refused(format!(
                "cron expression `{text}` never comes"
            ))),
        }
    }
}

// === impl Field ===

impl Field {
    fn read(&self, text: &str) -> Result<Set, Error> {
        let mut set = 0;
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(self.step(step)?)),
                None => (part, None),
            };
            let (first, last) = match range.split_once('-') {
                _ if range == "*" => (self.min, self.max),
                Some((first, last)) => (self.number(first)?, self.number(last)?),
                None if step.is_some() => (self.number(range)?, self.max),
                None => (self.number(range)?, self.number(range)?),
            };
            if first > last {
                return Err(self.refuse(part));
            }
            for number in (first..=last).step_by(step.unwrap_or(1)) {
                set |= 1 << number;
            }
        }
        Ok(Set(set))
    }

    fn step(&self, text: &str) -> Result<usize, Error> {
        let step = text.parse().ok().filter(|step| (1..=60).contains(step));
        step.ok_or_else(|| self.refuse(text))
    }

    fn number(&self, text: &str) -> Result<u8, Error> {
        let lower = text.to_ascii_lowercase();
        if let Some(index) = self.words.iter().position(|word| *word == lower) {
            return Ok(self.min + u8::try_from(index).unwrap_or(0));
        }
        let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| is_digits);
        let number = number.filter(|number| (self.min..=self.max).contains(number));
        number.ok_or_else(|| self.refuse(text))
    }

    fn refuse(&self, text: &str) -> Error {
        let Self { name, min, max, .. } = self;
        Error::refused(format!(
            "`{text}` is no {name} of a cron expression ({min} to {max})"
        ))
    }
}

// === impl Set ===

impl Set {
    fn has(self, number: i8) -> bool {
        self.0 & (1 << number) != 0
    }

    /// The numbers from one on, in order.
    fn from(self, first: i8) -> impl Iterator<Item = i8> {
        (first..60).filter(move |number| self.has(*number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The matches from a moment on, as texts.
    fn after(expression: &str, from: &str, count: usize) -> Vec<String> {
        let expression: Expression = expression.parse().unwrap();
        let mut from: DateTime = from.parse().unwrap();
        let mut found = Vec::new();
        for _ in 0..count {
            let next = expression.next(from).unwrap();
            found.push(next.to_string());
            from = next.saturating_add(jiff::Span::new().seconds(1));
        }
        found
    }

    #[test]
    fn fields_are_numbers_ranges_steps_lists_and_names() {
        let from = "2026-01-01T00:00:00";
        for (expression, expected) in [
            (
                "*/20 * * * *",
                ["2026-01-01T00:00:00", "2026-01-01T00:20:00"],
            ),
            (
                "5,50-51 3 * * *",
                ["2026-01-01T03:05:00", "2026-01-01T03:50:00"],
            ),
            (
                "50/5 3 * * *",
                ["2026-01-01T03:50:00", "2026-01-01T03:55:00"],
            ),
            (
                "0 9 * * MON-fri",
                ["2026-01-01T09:00:00", "2026-01-02T09:00:00"],
            ),
            ("0 0 29 2 *", ["2028-02-29T00:00:00", "2032-02-29T00:00:00"]),
            (
                "0 0 * JAN 7",
                ["2026-01-04T00:00:00", "2026-01-11T00:00:00"],
            ),
            (
                "*/30 59 23 31 12 *",
                ["2026-12-31T23:59:00", "2026-12-31T23:59:30"],
            ),
            ("@weekly", ["2026-01-04T00:00:00", "2026-01-11T00:00:00"]),
            // Both days given: either matches.
            ("0 0 13 * 5", ["2026-01-02T00:00:00", "2026-01-09T00:00:00"]),
            (
                "0 12 1-7 * *",
                ["2026-01-01T12:00:00", "2026-01-02T12:00:00"],
            ),
        ] {
            assert_eq!(after(expression, from, 2), expected, "{expression}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused_with_the_part_that_is_wrong() {
        for (expression, part) in [
            ("* * * *", "4 fields"),
            ("* * * * * * *", "7 fields"),
            ("60 * * * *", "`60` is no minute"),
            ("* 24 * * *", "`24` is no hour"),
            ("* * 0 * *", "`0` is no day of month"),
            ("* * * 13 *", "`13` is no month"),
            ("* * * * 8", "`8` is no day of week"),
            ("*/0 * * * *", "`0` is no minute"),
            ("5-3 * * * *", "`5-3` is no minute"),
            ("+5 * * * *", "`+5` is no minute"),
            ("a * * * *", "`a` is no minute"),
            ("0 0 30 2 *", "never comes"),
        ] {
            let error = expression.parse::<Expression>().unwrap_err().to_string();
            assert!(error.contains(part), "{expression}: {error}");
        }
    }
}
