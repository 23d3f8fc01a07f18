//! Bulk imports: their saga, the engine that runs it, and who starts it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ratebox_imports::{Desk, Settings, Starter};
use ratebox_outbox::{Inbox, Outbox};
use ratebox_saga::{Journal, SqlStore};

use super::Parts;

/// Looks after imports from now on: those of this process, of other gateways, and those that a
/// dead process left.
///
/// # Errors
/// When the settings do not fit.
pub fn start(parts: &Parts, outbox: Outbox) -> Result<()> {
    let inbox = Inbox::new(ratebox_worker::INBOX, parts.config.bus.stream.as_str());
    let settings = settings(parts);
    let look_every = settings.look_every;
    let shutdown = parts.tasks.shutdown();
    let desk = Desk::new(parts.store.clone(), inbox, settings, shutdown.clone());
    let saga = Arc::new(desk).saga().context("the saga of imports")?;
    let store = SqlStore::new(parts.store.db().clone()).with_outbox(outbox);
    let process = parts.subscription.consumer.to_string();
    // Their steps share the store's transactions, so their journal is there, wherever others are.
    let engine = super::saga::engine(&parts.config, &Journal::new(store), process)?
        .register(&saga)
        .start(&parts.tasks)
        .context("the saga engine")?;
    let wake = Arc::clone(&parts.imports);
    let starter = Starter::new(parts.store.clone(), engine, saga, wake, look_every)
        .keeping(parts.config.imports.keep());
    parts.tasks.spawn("imports", starter.run(shutdown));
    Ok(())
}

fn settings(parts: &Parts) -> Settings {
    let (config, bus) = (&parts.config.imports, &parts.config.bus);
    Settings {
        lanes: bus.lanes(),
        responses: bus.importer_responses.clone(),
        tells_owner: bus.fair,
        look_every: Duration::from_millis(config.look_every_ms),
        follow_every: Duration::from_millis(config.follow_every_ms),
    }
}
