//! Sending events, and chores.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use ratebox_kit::Backoff;
use ratebox_outbox::{RelaySettings, Settings};
use ratebox_worker::HousekeepingSettings;
use serde::Deserialize;

use super::BusConfig;
use super::check::within;

const DAY_MS: u64 = 86_400_000;

/// Sending events right after their commit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboxConfig {
    /// Milliseconds that a new event is left to its sender.
    pub pre_lease_ms: u64,
    /// Publish right after the commit.
    pub optimistic: bool,
    /// Milliseconds after which a sender gives up.
    pub optimistic_timeout_ms: u64,
    /// Days that sent events are kept; 0 = not at all.
    pub archive_days: u64,
    /// Archive what goes over the bus' own streams as well.
    pub archive_own: bool,
}

/// Sending what its sender could not, and chores.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayConfig {
    /// Rows that one read takes from a partition at most.
    pub batch_max: i64,
    /// Milliseconds between looks.
    pub poll_ms: u64,
    /// Milliseconds that a partition is leased.
    pub lease_ms: u64,
    /// Tries before an event is dead.
    pub attempts_max: i64,
    /// Milliseconds: bound of the first wait.
    pub retry_first_ms: u64,
    /// Milliseconds: no wait is longer.
    pub retry_wait_max_ms: u64,
    /// Which broker the events of the predecessor's table go to; empty = it is not served.
    pub saga_outbox: String,
    /// Milliseconds between looks for vanished requests.
    pub republish_every_ms: u64,
    /// Milliseconds between rounds of housekeeping.
    pub housekeeping_every_ms: u64,
    /// Months of partitions made ahead.
    pub partitions_ahead: i32,
    /// Days that inbox marks are kept.
    pub inbox_days: u64,
    /// Hours that idempotency keys are kept.
    pub idempotency_hours: u64,
    /// Days that figures of the streams are kept.
    pub metrics_days: u64,
    /// Days that dead letters are kept after their replay led to a verdict.
    pub resolved_letters_days: u64,
}

impl OutboxConfig {
    /// Settings of the outbox.
    pub fn settings(&self, bus: &BusConfig) -> Settings {
        Settings {
            pre_lease: Duration::from_millis(self.pre_lease_ms),
            optimistic: self.optimistic,
            optimistic_timeout: Duration::from_millis(self.optimistic_timeout_ms),
            archive: self.archive_days > 0,
            unarchived: self.unarchived(bus),
            ..Settings::default()
        }
    }

    fn unarchived(&self, bus: &BusConfig) -> Arc<[String]> {
        if self.archive_own {
            return Arc::default();
        }
        let streams = bus.streams().into_iter();
        streams.map(|name| name.to_string()).collect()
    }
}

impl RelayConfig {
    /// Refuses times in which a loop never rests, or a partition changes hands before its holder
    /// could renew it, and numbers with which no event is ever sent, or dead before it was.
    ///
    /// # Errors
    /// With the key.
    pub(super) fn check(&self) -> Result<()> {
        within("relay.lease_ms", self.lease_ms, 1_000..=600_000)?;
        for (key, value) in [
            ("relay.batch_max", self.batch_max),
            ("relay.attempts_max", self.attempts_max),
        ] {
            ensure!(value >= 1, "{key} must be at least 1");
        }
        for (key, value, least) in [
            ("relay.poll_ms", self.poll_ms, 1),
            ("relay.republish_every_ms", self.republish_every_ms, 1),
            ("relay.housekeeping_every_ms", self.housekeeping_every_ms, 1),
        ] {
            within(key, value, least..=DAY_MS)?;
        }
        Ok(())
    }

    /// Settings of the relay.
    pub fn settings(&self, outbox: &OutboxConfig, bus: &BusConfig) -> RelaySettings {
        let archive = Duration::from_secs(outbox.archive_days * 86_400);
        RelaySettings {
            batch_max: self.batch_max,
            poll: Duration::from_millis(self.poll_ms),
            lease: Duration::from_millis(self.lease_ms),
            attempts_max: self.attempts_max,
            backoff: Backoff {
                first: Duration::from_millis(self.retry_first_ms),
                max: Duration::from_millis(self.retry_wait_max_ms),
            },
            archive: Some(archive).filter(|it| !it.is_zero()),
            unarchived: outbox.unarchived(bus),
            ..RelaySettings::default()
        }
    }

    /// What topics of the predecessor's events begin with; `None` when its table is not served.
    pub fn saga_route(&self) -> Option<String> {
        match self.saga_outbox.as_str() {
            "" => None,
            "bus" => Some(String::new()),
            broker => Some(format!("{broker}:")),
        }
    }

    /// Settings of the chores.
    pub fn housekeeping(&self, bus: &BusConfig) -> HousekeepingSettings {
        HousekeepingSettings {
            every: Duration::from_millis(self.housekeeping_every_ms),
            months_ahead: self.partitions_ahead,
            inbox_window: Duration::from_secs(self.inbox_days * 86_400),
            keys_window: Duration::from_secs(self.idempotency_hours * 3600),
            metrics_window: Duration::from_secs(self.metrics_days * 86_400),
            letters_window: Duration::from_secs(self.resolved_letters_days * 86_400),
            retention: bus.retention(),
            max_bytes: Some(bus.retention_bytes).filter(|bytes| *bytes > 0),
            abandoned_after: Duration::from_secs(bus.abandoned_after_hours * 3600),
            ignore_abandoned: bus.ignore_abandoned_groups,
            ..HousekeepingSettings::default()
        }
    }
}
