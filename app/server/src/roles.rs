//! Starts the roles of a process from its parts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use ratebox_kit::{Causes, Stopwatch, Tasks, Trouble, open_files};
use ratebox_outbox::{Lack, Outbox, Relay, RelayHealth, SagaOutbox};
use ratebox_store::Store;
use ratebox_stream::{Consumer, Door, Rules, Watch};
use ratebox_worker::{Housekeeping, Republisher, Settings, Worker};
use tokio::signal::unix::{SignalKind, signal};

use crate::answers;
use crate::config::Config;
use crate::readiness::Lacks;
use crate::wiring::{self, Bus, Parts, Patience};

/// Files beside the connections of clients: those to servers, the data folder's, the listeners.
const OTHER_FILES: u64 = 200;

/// Starts a worker: the consumer of the requests and its handler. Answers what it lacks, whenever it
/// is asked.
///
/// # Errors
/// When the settings do not fit.
pub fn worker(parts: &Parts, outbox: Outbox) -> Result<Lacks> {
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
    let consumer = Arc::new(consumer);
    let (running, no_limits) = (consumer.clone(), Arc::new(AtomicBool::new(false)));
    let (tasks, limited, waits) = (parts.tasks.clone(), parts.clone(), no_limits.clone());
    let (store, connections) = (parts.store.clone(), config.worker.batches_in_flight);
    parts.tasks.spawn("worker", async move {
        let mut shutdown = tasks.shutdown();
        // Without the store the consumer waits by itself, and says so.
        tokio::select! {
            _ = store.db().warm_up(connections) => {}
            () = shutdown.wait() => return,
        }
        if set_limits(&limited, rules, &waits).await {
            running.run(handler, &tasks).await;
        }
    });
    watch_backlog(parts);
    Ok(Box::new(move || {
        if no_limits.load(Ordering::SeqCst) {
            Some("the limits of the workers cannot be set on the bus; see the log\n")
        } else if consumer.cannot_read() {
            Some("the bus cannot be read; see the log\n")
        } else if consumer.is_without_what_it_needs() {
            Some("the store cannot be reached; see the log\n")
        } else {
            None
        }
    }))
}

/// Tells the bus the limits of the settings, again and again until it has them: without them too
/// much would begin. `waits` is true once that takes seconds. False when the process is to stop.
async fn set_limits(parts: &Parts, rules: Rules, waits: &AtomicBool) -> bool {
    let shutdown = parts.tasks.shutdown();
    let (since, mut trouble) = (Stopwatch::start(), Trouble::default());
    for (scope, limit) in rules {
        let set = || {
            parts
                .sides
                .limits
                .set_limit(&parts.subscription, &scope, limit)
        };
        while let Err(error) = set().await {
            let now = since.elapsed();
            if let Some(spell) = trouble.failed(now) {
                let (failures, lasted_s) = (spell.failures, spell.lasted.as_secs());
                tracing::warn!(error = %Causes(&error), failures, lasted_s,
                    "the worker waits: its limits cannot be set (docs/Bus-Order-And-Limits.md)");
            }
            waits.store(trouble.lasts(now), Ordering::SeqCst);
            if !shutdown.sleep(Duration::from_secs(1)).await {
                return false;
            }
        }
    }
    waits.store(false, Ordering::SeqCst);
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
/// Answers what it lacks, whenever it is asked.
///
/// # Errors
/// When the settings do not fit.
pub fn relay(parts: &Parts, outbox: Outbox) -> Result<Lacks> {
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
    let health = relay.health();
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
    if config.bus.answers_bytes > 0 && matches!(parts.bus, Bus::Embedded) {
        let bound = answers::bound(parts.clone(), tasks.shutdown());
        tasks.spawn("answers", bound);
    }
    wiring::saga::watch_parked(parts);
    wiring::imports::start(parts, outbox)?;
    Ok(Box::new(move || lack_of(&health)))
}

fn lack_of(health: &RelayHealth) -> Option<&'static str> {
    health.lacks().map(|lack| match lack {
        Lack::Database => "the store cannot be reached; see the log\n",
        Lack::Broker => "the bus takes no events; see the log\n",
    })
}

/// Makes room for so many connections of clients, as far as the system allows, and says when that is
/// not far enough.
pub fn make_room(connections_max: usize) {
    let clients = u64::try_from(connections_max).unwrap_or(u64::MAX);
    let wanted = clients.saturating_add(OTHER_FILES);
    let allowed = open_files::allow(wanted);
    if let Some(allowed) = allowed.filter(|allowed| *allowed < wanted) {
        tracing::warn!(
            "{allowed} open files are allowed, and gateway.connections_max = {connections_max} takes \
             {wanted}: raise the hard limit (LimitNOFILE= of systemd, `ulimit -Hn`), or lower \
             gateway.connections_max"
        );
    }
}

/// Brings the tables up to date, or looks whether they are where the settings leave that to
/// `ratebox migrate`. Waits for a database that is still starting, or that goes away meanwhile: what
/// is half done is done again. Tables of a newer release will do: while a fleet goes up, or back, both
/// run on them.
///
/// # Errors
/// When a migration fails or is missing, or the patience is at its end.
pub async fn migrate(store: &Store, config: &Config, patience: &Patience) -> Result<()> {
    let migrate = async || {
        let reached = store.db().ping().await;
        reached.context("the store cannot be reached")?;
        match config.store.migrate_at_start {
            true => wiring::migrate(store).await.map(drop)?,
            false => wiring::migrated(store).await?,
        }
        wiring::newer(store).await
    };
    let newer = patience.until("the store", migrate).await?;
    if !newer.is_empty() {
        let names = wiring::listed(&newer);
        tracing::warn!(
            "the tables are of a newer release: this one does not know {names}, and goes on; that is as it \
             should be while a fleet goes up or back, else run the newer release"
        );
    }
    Ok(())
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
