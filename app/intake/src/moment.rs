//! Reads the times that clients write: RFC 3339, the same without a zone (taken as UTC), or seconds or milliseconds since 1970.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Numbers from here on are milliseconds: as seconds they would be beyond the year 5000.
const MILLIS_FROM: u64 = 100_000_000_000;

/// The time in a text, if it is one. A client's time is kept beside ours and never needed, so nothing is an error.
pub(crate) fn read(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(number) = text.parse::<i64>() {
        return if number.unsigned_abs() < MILLIS_FROM {
            Timestamp::from_second(number).ok()
        } else {
            Timestamp::from_millisecond(number).ok()
        };
    }
    let local = || {
        text.parse::<DateTime>()
            .ok()?
            .to_zoned(TimeZone::UTC)
            .ok()
            .map(|zoned| zoned.timestamp())
    };
    text.parse().ok().or_else(local)
}
