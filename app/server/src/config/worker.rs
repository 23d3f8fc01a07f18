//! Take, check, record, answer.

use serde::Deserialize;

/// Take, check, record, answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerConfig {
    /// Messages of one transaction.
    pub batch_max: usize,
    /// Bytes of the messages of one transaction.
    pub batch_max_bytes: usize,
    /// Transactions at the same time.
    pub batches_in_flight: usize,
    /// Milliseconds that a read waits.
    pub block_ms: u64,
    /// Milliseconds without a heartbeat after which others take over.
    pub claim_idle_ms: u64,
    /// Milliseconds between heartbeats.
    pub heartbeat_ms: u64,
    /// Milliseconds between looks for work to take over.
    pub claim_every_ms: u64,
    /// Retries after an error.
    pub retry_max: u32,
    /// Milliseconds: bound of the first wait.
    pub retry_first_ms: u64,
    /// Milliseconds: no wait is longer.
    pub retry_wait_max_ms: u64,
    /// Deliveries without an outcome.
    pub deliveries_max: u32,
}
