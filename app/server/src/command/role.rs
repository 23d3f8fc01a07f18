//! The roles one by one, for fleets: each waits for SIGTERM.

use anyhow::Result;

use crate::config::Config;
use crate::wiring::{self, Parts};
use crate::{door, metrics, roles};

/// Takes requests over HTTP.
///
/// # Errors
/// When it cannot start, or did not end in time.
pub async fn gateway(config: Config) -> Result<()> {
    let parts = start(config).await?;
    let outbox = parts.outbox();
    door::open(&parts, outbox).await?;
    tracing::info!(listen = %parts.config.server.listen, places = parts.places(), "gateway is up");
    roles::until_told_to_stop(&parts).await
}

/// Takes messages, judges and records them.
///
/// # Errors
/// When it cannot start, or did not end in time.
pub async fn worker(config: Config) -> Result<()> {
    let parts = start(config).await?;
    roles::worker(&parts, parts.outbox())?;
    let consumer = parts.subscription.consumer.as_str();
    tracing::info!(consumer, places = parts.places(), "worker is up");
    roles::until_told_to_stop(&parts).await
}

/// Sends what its sender could not, and looks after imports.
///
/// # Errors
/// When it cannot start, or did not end in time.
pub async fn relay(config: Config) -> Result<()> {
    let parts = start(config).await?;
    roles::relay(&parts, parts.outbox())?;
    tracing::info!(places = parts.places(), "relay is up");
    roles::until_told_to_stop(&parts).await
}

/// What every role begins with: parts, metrics, tables.
///
/// # Errors
/// When servers cannot be reached or addresses cannot be used.
pub async fn start(config: Config) -> Result<Parts> {
    let parts = wiring::connect(config).await?;
    let handle = metrics::start(&parts.tasks)?;
    metrics::serve(&parts.config.metrics, handle, &parts.tasks).await?;
    roles::migrate(&parts).await?;
    Ok(parts)
}
