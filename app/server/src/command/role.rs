//! The roles one by one, for fleets: each waits for SIGTERM.

use anyhow::Result;
use ratebox_kit::Tasks;

use crate::closed_door::ClosedDoor;
use crate::config::Config;
use crate::readiness::Readiness;
use crate::wiring::{self, Parts, Patience};
use crate::{door, metrics, roles};

/// Takes requests over HTTP.
///
/// # Errors
/// When it cannot start, or did not end in time.
pub async fn gateway(mut config: Config) -> Result<()> {
    roles::make_room(config.gateway.connections_max);
    let closed = ClosedDoor::at(config.server.listen).await?;
    // With port 0 any free one was taken; the log names it.
    config.server.listen = closed.address()?;
    let parts = Box::pin(start(config)).await?;
    let outbox = parts.outbox();
    door::open(&parts, outbox, closed).await?;
    tracing::info!(listen = %parts.config.server.listen, places = parts.places(), "gateway is up");
    roles::until_told_to_stop(&parts).await
}

/// Takes messages, judges and records them.
///
/// # Errors
/// When it cannot start, or did not end in time.
pub async fn worker(config: Config) -> Result<()> {
    let parts = Box::pin(start(config)).await?;
    let lacks = roles::worker(&parts, parts.outbox())?;
    parts.readiness.unless(lacks);
    let consumer = parts.subscription.consumer.as_str();
    tracing::info!(consumer, places = parts.places(), "worker is up");
    roles::until_told_to_stop(&parts).await
}

/// Sends what its sender could not, and looks after imports.
///
/// # Errors
/// When it cannot start, or did not end in time.
pub async fn relay(config: Config) -> Result<()> {
    let parts = Box::pin(start(config)).await?;
    let lacks = roles::relay(&parts, parts.outbox())?;
    parts.readiness.unless(lacks);
    tracing::info!(places = parts.places(), "relay is up");
    roles::until_told_to_stop(&parts).await
}

/// What every role begins with: metrics, parts, tables. Servers that are away are waited for.
///
/// # Errors
/// When servers stay away for longer than the settings allow, would lose data by theirs, or
/// addresses cannot be used.
pub async fn start(mut config: Config) -> Result<Parts> {
    let tasks = Tasks::new();
    let handle = metrics::start(&tasks)?;
    let readiness = Readiness::of(&tasks);
    let listening = metrics::serve(&config.metrics, handle, &readiness, &tasks).await?;
    config.metrics.listen = listening.map_or_else(String::new, |it| it.to_string());
    let patience = Patience::of_seconds(config.server.start_timeout_s);
    let parts = wiring::connect(config, tasks, readiness, &patience).await?;
    roles::migrate(&parts.store, &parts.config, &patience).await?;
    Ok(parts)
}
