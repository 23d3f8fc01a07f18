//! Bulk imports.

use std::time::Duration;

use serde::Deserialize;

/// Bulk imports.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportsConfig {
    /// Items of one import.
    pub items_max: usize,
    /// Items of an import that is cut into requests while it is taken.
    pub at_once_max: u32,
    /// Milliseconds between looks for imports of other processes.
    pub look_every_ms: u64,
    /// Milliseconds between looks at the requests of one import.
    pub follow_every_ms: u64,
    /// Days that imports are kept after their end; 0 = for ever.
    pub keep_days: u64,
}

impl ImportsConfig {
    /// How long imports are kept after their end.
    pub fn keep(&self) -> Option<Duration> {
        let days = Some(self.keep_days).filter(|days| *days > 0);
        days.map(|days| Duration::from_secs(days.saturating_mul(86_400)))
    }
}
