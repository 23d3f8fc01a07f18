//! One thing that was looked at.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::SignedDuration;
use ratebox_kit::Timestamp;
use serde_json::{Value, json};

use super::super::figures::span;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Nothing to do.
    Ok,
    /// Worth a change.
    Warn,
    /// Data can be lost, or it does not work.
    Fail,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) level: Level,
    about: &'static str,
    says: String,
    advice: Option<String>,
}

// === impl Finding ===

impl Finding {
    /// Nothing to do.
    pub(super) fn ok(about: &'static str, says: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            about,
            says: says.into(),
            advice: None,
        }
    }

    /// Worth a change.
    pub(super) fn warn(about: &'static str, says: impl Into<String>) -> Self {
        Self {
            level: Level::Warn,
            ..Self::ok(about, says)
        }
    }

    /// Data can be lost, or it does not work.
    pub(super) fn fail(about: &'static str, says: impl Into<String>) -> Self {
        Self {
            level: Level::Fail,
            ..Self::ok(about, says)
        }
    }

    /// What to do about it.
    pub(super) fn advise(self, advice: impl Into<String>) -> Self {
        Self {
            advice: Some(advice.into()),
            ..self
        }
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        format!("{} {} {:?}", self.level.word(), self.says, self.advice)
    }
}

/// Clocks further apart than this are worth a change.
const SKEW_WARN: Duration = Duration::from_secs(1);
/// Clocks further apart than this break leases and orders.
const SKEW_FAIL: Duration = Duration::from_secs(10);

/// A server's clock against this machine's, which was read before and after the server's.
pub(super) fn clock(
    about: &'static str,
    server: Timestamp,
    before: Timestamp,
    after: Timestamp,
) -> Finding {
    let early = before.duration_since(server);
    let late = server.duration_since(after);
    // Within the time that the question took, nobody can say.
    let apart = early.max(late).max(SignedDuration::ZERO).unsigned_abs();
    let says = format!("its clock and this machine's are {} apart", span(apart));
    let advice = "synchronise both with a time server (chrony, systemd-timesyncd)";
    if apart > SKEW_FAIL {
        Finding::fail(about, says).advise(advice)
    } else if apart > SKEW_WARN {
        Finding::warn(about, says).advise(advice)
    } else {
        Finding::ok(about, "its clock and this machine's agree")
    }
}

/// For people.
pub(super) fn to_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding {
        level,
        about,
        says,
        advice,
    } in findings
    {
        let _ = writeln!(text, "{:<4}  {about:<8}  {says}", level.word());
        if let Some(advice) = advice {
            let _ = writeln!(text, "                -> {advice}");
        }
    }
    let (warnings, failures) = (count(findings, Level::Warn), count(findings, Level::Fail));
    let _ = match (warnings, failures) {
        (0, 0) => writeln!(text, "\nall is well"),
        _ => writeln!(text, "\nfailures: {failures}, warnings: {warnings}"),
    };
    text
}

/// For scripts.
pub(super) fn to_json(findings: &[Finding]) -> Value {
    let one = |it: &Finding| json!({ "level": it.level.word(), "about": it.about, "says": it.says, "advice": it.advice });
    json!({
        "failures": count(findings, Level::Fail),
        "warnings": count(findings, Level::Warn),
        "findings": findings.iter().map(one).collect::<Vec<_>>(),
    })
}

fn count(findings: &[Finding], level: Level) -> usize {
    findings
        .iter()
        .filter(|finding| finding.level == level)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_read_like_this() {
        let findings = [
            Finding::ok("bus", "it answers"),
            Finding::fail("store", "fsync is off").advise("set fsync = on"),
        ];
        assert_eq!(
            to_text(&findings),
            "OK    bus       it answers
FAIL  store     fsync is off
                -> set fsync = on

failures: 1, warnings: 0
"
        );
        assert_eq!(
            to_json(&findings)["findings"][1]["advice"],
            "set fsync = on"
        );
    }

    #[test]
    fn clocks_are_compared_within_what_the_question_took() {
        let at = |seconds: i64| Timestamp::from_second(1_700_000_000 + seconds).unwrap();
        let level = |server| clock("bus", at(server), at(0), at(5)).level;
        assert_eq!(
            [level(0), level(5), level(-1)],
            [Level::Ok, Level::Ok, Level::Ok]
        );
        assert_eq!([level(8), level(-8)], [Level::Warn, Level::Warn]);
        assert_eq!([level(16), level(-11)], [Level::Fail, Level::Fail]);
    }
}
