//! How an engine runs sagas.

use std::time::Duration;

use crate::Time;

/// Settings of one engine. The defaults are good for a process of its own.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// The process' name, for operators.
    pub process: String,
    /// A process that gives no sign for this long is dead, and others take its sagas over. 3 s.
    pub lease: Duration,
    /// How often it gives a sign. 1 s.
    pub renew_every: Duration,
    /// How often it looks for dead processes, due times and letters. 500 ms.
    pub poll_every: Duration,
    /// Sagas held in memory at once; a start beyond that waits. 10,000.
    pub live_max: usize,
    /// How long a start waits for room before it fails as busy, and for a journal that cannot be
    /// joined. 5 s.
    pub start_wait: Duration,
    /// Entries of one commit. 1,024.
    pub batch_max: usize,
    /// Commits under way at once. 2.
    pub writers: usize,
    /// A saga that has nothing to do for longer than this is not held in memory. 5 s.
    pub idle_max: Duration,
    /// Sagas that ended are deleted after this long; `None` keeps them for ever. 30 days.
    pub keep_ended: Option<Duration>,
    /// Whether it measures: counters and histograms of the `metrics` facade. Yes.
    pub metrics: bool,
    /// Whether sagas and steps run inside spans. Yes.
    pub spans: bool,
    /// Where the time comes from.
    pub time: Time,
    /// Makes the waits between attempts repeatable.
    pub seed: Option<u64>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            process: format!("process {}", std::process::id()),
            lease: Duration::from_secs(3),
            renew_every: Duration::from_secs(1),
            poll_every: Duration::from_millis(500),
            live_max: 10_000,
            start_wait: Duration::from_secs(5),
            batch_max: 1_024,
            writers: 2,
            idle_max: Duration::from_secs(5),
            keep_ended: Some(Duration::from_secs(30 * 86_400)),
            metrics: true,
            spans: true,
            time: Time::system(),
            seed: None,
        }
    }
}
