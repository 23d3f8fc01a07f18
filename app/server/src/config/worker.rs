//! Take, check, record, answer.

use ratebox_stream::{Limit, Rate, Rules, Scope};
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
    /// Messages of one owner in work over all workers; 0 = any number.
    pub owner_in_work_max: u32,
    /// Messages in work over all workers; 0 = any number.
    pub in_work_max: u32,
    /// Messages begun in a second over all workers; 0 = any number.
    pub rate_per_s: u32,
    /// Seconds between looks at the backlog; 0 = none.
    pub backlog_every_s: u64,
    /// Seconds that the oldest message should not exceed.
    pub backlog_target_s: u64,
}

impl WorkerConfig {
    /// The limits over all workers; empty when there are none.
    pub fn limits(&self) -> Rules {
        let some = |value: u32| (value > 0).then_some(value);
        let all = Limit {
            rate: some(self.rate_per_s).map(Rate::per_second),
            at_work: some(self.in_work_max),
        };
        let owner = Limit {
            rate: None,
            at_work: some(self.owner_in_work_max),
        };
        let rules = [(Scope::all(), all), (Scope::each_owner(), owner)];
        let is_limit = |(_, limit): &(Scope, Limit)| *limit != Limit::default();
        rules.into_iter().filter(is_limit).collect()
    }
}
