//! `ratebox cache`: the cache service; `ratebox cache tour URL` walks through a running one.

mod client;
mod scenes;
mod tour;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use ratebox_kit::Tasks;

use crate::config::{CacheAuth, Config};
use crate::readiness::Readiness;
use crate::wiring::Patience;
use crate::{cache_door, metrics, wiring};

pub use tour::TourArgs;
pub use tour::run as tour;

/// Serves the declared resources until it is told to stop.
///
/// # Errors
/// When it cannot start, or did not end in time.
pub async fn serve(config: Config) -> Result<()> {
    crate::roles::make_room(config.gateway.connections_max);
    let tasks = Tasks::new();
    let handle = metrics::start(&tasks)?;
    let readiness = Readiness::of(&tasks);
    metrics::serve(&config.metrics, handle.clone(), &readiness, &tasks).await?;
    // Tokens, and letters of writes that failed for good.
    let patience = Patience::of_seconds(config.server.start_timeout_s);
    let reach = async || wiring::store(&config).await;
    let store = patience.until("the store", reach).await?;
    crate::roles::migrate(&store, &config, &patience).await?;
    let page = Arc::new(move || handle.render());
    let parts = wiring::cache::connect(&config, &store, page, &tasks).await?;
    let listen = cache_door::open(&config, parts.service.clone(), &store, &tasks).await?;
    if config.cache.auth == CacheAuth::Off {
        tracing::warn!("anybody who reaches the address may read and write: cache.auth is off");
    }
    tracing::info!(%listen, values = parts.values, writes = parts.writes, "the cache service is up");
    let (service, shutdown) = (parts.service.clone(), tasks.shutdown());
    tasks.spawn("cache warming", async move {
        // Loads of a warming that is cut go on, and fill or do not.
        let _ = shutdown.unless(service.warm()).await;
    });
    readiness.is_up();
    let limit = Duration::from_secs(config.server.shutdown_timeout_s);
    let stopped = crate::roles::stopped(&tasks, limit).await;
    // After the last request: it may have changed something that others were not told of.
    parts.service.tell_rest().await;
    stopped
}
