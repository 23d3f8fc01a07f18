//! The doors in.

use anyhow::{Result, ensure};
use serde::Deserialize;

/// What a 202 promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accept {
    /// On disk in the store.
    Durable,
    /// Taken by the bus.
    Stream,
}

/// The doors in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// What a 202 promises.
    pub accept: Accept,
    /// Milliseconds that a 202 of the bus waits for the bus's disk; 0 = it does not.
    pub accept_disk_wait_ms: u64,
    /// Bytes of a body at most.
    pub body_max_bytes: usize,
    /// Items of a request at most.
    pub items_max: usize,
    /// Requests that wait at most.
    pub accept_queue_max: usize,
    /// Commits at the same time.
    pub committers: usize,
    /// Connections at most.
    pub connections_max: usize,
    /// Milliseconds for request line and headers.
    pub head_timeout_ms: u64,
    /// Milliseconds for a body.
    pub body_timeout_ms: u64,
    /// Milliseconds after which an idle connection is closed.
    pub idle_timeout_ms: u64,
    /// Requests a minute and user.
    pub limit_validate: u32,
    /// Requests a minute and user.
    pub limit_status: u32,
    /// Requests a minute and user.
    pub limit_batch: u32,
    /// Requests a minute and token.
    pub limit_import: u32,
    /// Requests a minute and token.
    pub limit_bulk: u32,
    /// Requests a minute and token.
    pub limit_import_status: u32,
    /// Requests a minute and user.
    pub limit_lookup: u32,
    /// Whether all gateways count together.
    pub limits_shared: bool,
    /// Requests a minute and token: cancelling imports.
    pub limit_import_cancel: u32,
    /// Milliseconds that a token is remembered.
    pub token_cache_ms: u64,
}

// === impl GatewayConfig ===

impl GatewayConfig {
    /// Whether the promise of a 202 can be kept.
    pub(super) fn check(&self, on_cluster: bool) -> Result<()> {
        let waits = self.accept_disk_wait_ms > 0;
        ensure!(
            !waits || self.accept == Accept::Stream && !on_cluster,
            "gateway.accept_disk_wait_ms is for gateway.accept = \"stream\" on a bus that is no \
             cluster; set it to 0"
        );
        let limits = [
            ("limit_validate", self.limit_validate),
            ("limit_status", self.limit_status),
            ("limit_batch", self.limit_batch),
            ("limit_import", self.limit_import),
            ("limit_bulk", self.limit_bulk),
            ("limit_import_status", self.limit_import_status),
            ("limit_import_cancel", self.limit_import_cancel),
            ("limit_lookup", self.limit_lookup),
        ];
        for (key, value) in limits {
            ensure!(
                value >= 1,
                "gateway.{key} must be at least 1; a token without the scope keeps callers out"
            );
        }
        Ok(())
    }
}
