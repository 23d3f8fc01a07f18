//! How reports write numbers.

use std::time::Duration;

/// A number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share with one decimal; a dash of nothing.
pub(super) fn percent(count: u64, of: u64) -> String {
    if of == 0 {
        return "-".to_owned();
    }
    let tenths = (u128::from(count) * 1000 + u128::from(of) / 2) / u128::from(of);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// A length of time in the unit that people would choose.
pub(super) fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0 => format!("{} ms", length.as_millis()),
        1..60 => format!("{:.1} s", length.as_secs_f64()),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// How many a second that is.
pub(super) fn per_second(count: u64, took: Duration) -> u64 {
    let micros = took.as_micros().max(1);
    u64::try_from(u128::from(count) * 1_000_000 / micros).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            (percent(1, 3), percent(0, 0)),
            ("33.3 %".to_owned(), "-".to_owned())
        );
        assert_eq!(per_second(3, Duration::from_millis(2)), 1500);
    }

    #[test]
    fn lengths_of_time_have_a_fitting_unit() {
        let spans = [5, 2_500, 90_000, 7_200_000, 259_200_000]
            .map(Duration::from_millis)
            .map(span);
        assert_eq!(spans, ["5 ms", "2.5 s", "1 min", "2 h", "3 days"]);
    }
}
