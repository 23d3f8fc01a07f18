//! Starts the roles of a process from its parts.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ratebox_kit::Tasks;
use ratebox_outbox::{Outbox, Relay, SagaOutbox};
use ratebox_store::Store;
use ratebox_stream::{Consumer, Door, Rules, Watch};
use ratebox_worker::{Housekeeping, Republisher, Settings, Worker};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::wiring::{self, Parts, Patience};

/// Starts a worker: the consumer of the requests and its handler.
///
/// # Errors
/// When the settings do not fit.
pub fn worker(parts: &Parts, outbox: Outbox) -> Result<()> {
    let config = &parts.config;
    let settings = Settings {
        stream: config.bus.stream.clone(),
        group: config.bus.group.clone(),
        consumer: parts.subscription.consumer.to_string(),
        rules: config.rules.rules()?,
        foreign_owner: config.bus.foreign_owner.clone(),
        answers: config.bus.answers(),
    };
    settings.rules.warm_up();
    let mut handler = Worker::new(parts.store.clone(), outbox, settings);
    if let Some(caches) = parts.lookups()?.of_worker() {
        handler = handler.with_lookups(caches, &parts.tasks);
    }
    let handler = Arc::new(handler);
    let mut consumer = Consumer::new(
        parts.log.clone(),
        Arc::new(parts.store.clone()),
        parts.subscription.clone(),
        config.worker.policy(&config.bus.dead_letter_stream)?,
        parts.clock.clone(),
    )
    .with_dispatcher(parts.sides.dispatcher.clone());
    let rules = config.worker.limits();
    if !rules.is_empty() {
        consumer = consumer.with_limits(parts.sides.limits.clone());
    }
    if config.bus.fair {
        consumer = consumer.with_rooms(parts.sides.rooms.clone(), Door::default());
    }
    let (tasks, limited) = (parts.tasks.clone(), parts.clone());
    let (store, connections) = (parts.store.clone(), config.worker.batches_in_flight);
    parts.tasks.spawn("worker", async move {
        let mut shutdown = tasks.shutdown();
        // Without the store the consumer waits by itself, and says so.
        tokio::select! {
            _ = store.db().warm_up(connections) => {}
            () = shutdown.wait() => return,
        }
        if set_limits(&limited, rules).await {
            consumer.run(handler, &tasks).await;
        }
    });
    watch_backlog(parts);
    Ok(())
}

/// Tells the bus the limits of the settings, again and again until it has them: without them too
/// much would begin. False when the process is to stop.
async fn set_limits(parts: &Parts, rules: Rules) -> bool {
    let shutdown = parts.tasks.shutdown();
    for (scope, limit) in rules {
        let set = || {
            parts
                .sides
                .limits
                .set_limit(&parts.subscription, &scope, limit)
        };
        while let Err(error) = set().await {
            tracing::warn!("the worker waits: its limits cannot be set: {error}");
            if !shutdown.sleep(Duration::from_secs(1)).await {
                return false;
            }
        }
    }
    true
}

/// Publishes what the workers are behind by.
fn watch_backlog(parts: &Parts) {
    let worker = &parts.config.worker;
    if worker.backlog_every_s == 0 {
        return;
    }
    let every = Duration::from_secs(worker.backlog_every_s);
    let target = Duration::from_secs(worker.backlog_target_s);
    let (backlogs, sub) = (parts.sides.backlogs.clone(), parts.subscription.clone());
    let watch = Watch::new(backlogs, sub, target);
    let shutdown = parts.tasks.shutdown();
    parts.tasks.spawn("backlog", watch.run(every, shutdown));
}

/// Starts a relay with republication, housekeeping and imports. `outbox` is that of the process.
///
/// # Errors
/// When the settings do not fit.
pub fn relay(parts: &Parts, outbox: Outbox) -> Result<()> {
    let (config, tasks) = (&parts.config, &parts.tasks);
    let holder = parts.subscription.consumer.to_string();
    let db = parts.store.db().clone();
    let settings = config.relay.settings(&config.outbox, &config.bus);
    if let Some(route) = config.relay.saga_route() {
        let broker = parts.broker.clone();
        let old = SagaOutbox::new(db.clone(), broker, &holder, settings.clone()).routed(route);
        tasks.spawn("saga-outbox", old.run(tasks.shutdown()));
    }
    let relay = Relay::new(db, parts.broker.clone(), &holder, settings, outbox.wake());
    tasks.spawn("relay", relay.run(tasks.shutdown()));
    let republisher = Republisher::new(
        parts.store.clone(),
        parts.log.clone(),
        parts.admin.clone(),
        parts.subscription.clone(),
        holder.clone(),
        Duration::from_millis(config.relay.republish_every_ms),
    );
    tasks.spawn("republisher", republisher.run(tasks.shutdown()));
    let housekeeping = Housekeeping::new(
        parts.store.clone(),
        parts.admin.clone(),
        parts.subscription.clone(),
        holder,
        config.relay.housekeeping(&config.bus),
    );
    tasks.spawn("housekeeping", housekeeping.run(tasks.shutdown()));
    wiring::saga::watch_parked(parts);
    wiring::imports::start(parts, outbox)
}

/// Brings the tables up to date, or looks whether they are where the settings leave that to
/// `ratebox migrate`. Waits for a database that is still starting, or that goes away meanwhile: what
/// is half done is done again.
///
/// # Errors
/// When a migration fails or is missing, or the patience is at its end.
pub async fn migrate(store: &Store, config: &Config, patience: &Patience) -> Result<()> {
    let migrate = async || {
        let reached = store.db().ping().await;
        reached.context("the store cannot be reached")?;
        match config.store.migrate_at_start {
            true => wiring::migrate(store).await.map(drop),
            false => wiring::migrated(store).await,
        }
    };
    patience.until("the store", migrate).await
}

/// The process is up: waits for SIGTERM or Ctrl-C, then stops everything in order.
///
/// # Errors
/// When signals cannot be watched, or tasks did not end in time.
pub async fn until_told_to_stop(parts: &Parts) -> Result<()> {
    parts.readiness.is_up();
    let limit = Duration::from_secs(parts.config.server.shutdown_timeout_s);
    stopped(&parts.tasks, limit).await
}

/// The same for a role that has no more than tasks.
///
/// # Errors
/// As [`until_told_to_stop`].
pub async fn stopped(tasks: &Tasks, limit: Duration) -> Result<()> {
    let mut term = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for Ctrl-C")?;
    tokio::select! {
        _ = term.recv() => tracing::info!("SIGTERM: finishing what was begun"),
        _ = interrupt.recv() => tracing::info!("Ctrl-C: finishing what was begun"),
    }
    let late = tasks.join(limit).await;
    anyhow::ensure!(
        late.is_empty(),
        "did not end in {limit:?} and was cut: {}",
        late.join(", ")
    );
    tracing::info!("stopped");
    Ok(())
}
