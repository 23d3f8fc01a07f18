//! When a breaker opens, and how it lets calls through again.

use std::time::Duration;

/// When a breaker opens, and how it lets calls through again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerSettings {
    /// Failures in a row that open it, however few calls there were.
    pub failures_in_a_row: u32,
    /// How far back failures and slow calls are counted. The window slides by tenths.
    pub window: Duration,
    /// Calls within the window below which no rate opens it.
    pub calls_min: u32,
    /// Share of failed calls within the window that opens it, 0…1.
    pub failure_rate: f64,
    /// A call that takes as long as this is slow.
    pub slow_after: Duration,
    /// Share of slow calls within the window that opens it, 0…1.
    pub slow_rate: f64,
    /// How long nothing is let through.
    pub open_for: Duration,
    /// Calls let through to try the backend after that; all must succeed. At least 1.
    pub probes: u32,
    /// A probe without an answer for this long gives its permit to another caller.
    pub probe_deadline: Duration,
    /// How long calls are let through in part after the probes succeeded; the share grows evenly
    /// from a tenth to all.
    pub ramp: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failures_in_a_row: 5,
            window: Duration::from_secs(10),
            calls_min: 20,
            failure_rate: 0.5,
            slow_after: Duration::from_secs(2),
            slow_rate: 0.8,
            open_for: Duration::from_secs(60),
            probes: 3,
            probe_deadline: Duration::from_secs(5),
            ramp: Duration::from_secs(10),
        }
    }
}
