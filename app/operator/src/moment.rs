//! A moment as people name it: a time, or how long ago. What every `from` and `until` takes, on the
//! command line and over HTTP.

use std::str::FromStr;
use std::time::Duration;

use ratebox_kit::Timestamp;

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// This one.
    At(Timestamp),
    /// So long before now.
    Ago(Duration),
}

// === impl Moment ===

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = text.parse() {
            return Ok(Self::At(time));
        }
        span(text)
            .map(Self::Ago)
            .map_err(|_| "a time (2026-01-31T12:00:00Z) or how long ago (15m)".to_owned())
    }
}

impl Moment {
    /// The time that is meant, when it is `now`; 1970 for all that is older.
    pub fn time(self, now: Timestamp) -> Timestamp {
        let time = match self {
            Self::At(time) => Some(time),
            Self::Ago(span) => now.checked_sub(span).ok(),
        };
        // Nothing is older; and of the years that can be written, PostgreSQL refuses those before 4713 BC.
        time.map_or(Timestamp::UNIX_EPOCH, |it| it.max(Timestamp::UNIX_EPOCH))
    }
}

/// A whole number with its unit: s, m, h or d.
///
/// # Errors
/// When it is none.
pub fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "a number with s, m, h or d, such as 15m".to_owned();
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number = text.get(..text.len() - 1).unwrap_or_default();
    let number: u32 = number.parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let time = |text: &str| text.parse::<Moment>().map(|it| it.time(now).to_string());
        for (text, meant) in [
            ("2026-01-30T10:00:00Z", "2026-01-30T10:00:00Z"),
            ("2026-01-30T12:00:00+02:00", "2026-01-30T10:00:00Z"),
            ("30s", "2026-01-31T11:59:30Z"),
            ("15m", "2026-01-31T11:45:00Z"),
            ("2h", "2026-01-31T10:00:00Z"),
            ("30d", "2026-01-01T12:00:00Z"),
            ("1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z"),
            ("-009999-06-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("4000000d", "1970-01-01T00:00:00Z"),
            ("4294967295d", "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(time(text).as_deref(), Ok(meant), "{text}");
        }
        for text in ["", "m", "15", "15x", "-1m", "é", "4294967296d", "soon"] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }
}
