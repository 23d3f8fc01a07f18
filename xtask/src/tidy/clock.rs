//! Only kit's clock reads the time and only kit's id makes ids, so that decisions can be repeated.
//! Tokio's own `Instant` is free: it drives timers and stands still where a test says so.

use super::Finding;
use super::source::Source;

const RULE: &str = "clock and ids";
const PLACES: [&str; 2] = ["libs/kit/src/clock.rs", "libs/kit/src/id.rs"];
const BANNED: [(&str, &str); 8] = [
    (
        "SystemTime::now",
        "take a ratebox_kit::Timestamp, or hold a Clock",
    ),
    ("Instant::now", "use ratebox_kit::Stopwatch"),
    (
        "Timestamp::now",
        "take a ratebox_kit::Timestamp, or hold a Clock",
    ),
    (
        "Zoned::now",
        "take a ratebox_kit::Timestamp, or hold a Clock",
    ),
    ("clock_gettime", "use ratebox_kit::Clock"),
    ("Uuid::now_v7", "use ratebox_kit::id::new"),
    ("Uuid::new_v7", "use ratebox_kit::id"),
    ("Uuid::new_v4", "use ratebox_kit::id::new"),
];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    if !source.is_product() || PLACES.contains(&&*source.path) {
        return Vec::new();
    }
    let tokios = source.code.contains("use tokio::time") && source.code.contains("Instant");
    let mut found = Vec::new();
    for (line, code) in source.shipped_lines() {
        for (call, advice) in BANNED {
            let tokio = call == "Instant::now" && (tokios || code.contains("tokio::time::Instant"));
            if code.contains(call) && !tokio {
                found.push(source.finding(line, RULE, format!("no `{call}` here: {advice}")));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::sample::{lines, source};
    use super::*;

    #[test]
    fn time_and_ids_come_from_kit() {
        let code =
            "//! a\nlet a = Instant::now();\nlet b = uuid::Uuid::now_v7();\n// Instant::now\n";
        assert_eq!(lines(&check(&source("libs/stream/src/a.rs", code))), [2, 3]);
        assert!(check(&source("libs/kit/src/clock.rs", code)).is_empty());
    }

    #[test]
    fn tokios_instant_is_free() {
        let code = "use tokio::time::{Instant, sleep_until};\nlet a = Instant::now();\n";
        assert!(check(&source("libs/stream/src/a.rs", code)).is_empty());
    }
}
