//! Opens the gateway on its address.

use std::iter::successors;
use std::time::Duration;

use anyhow::{Context, Result};
use ratebox_gateway::{AcceptMode, Condition, Deps, Gateway, Health, Settings, Weight};
use ratebox_kit::{Quota, Stopwatch};
use ratebox_outbox::{Outbox, Relay};

use crate::closed_door::ClosedDoor;
use crate::config::{Accept, GatewayConfig};
use crate::wiring::Parts;

/// How often the bus is asked what a power cut may take of what it holds.
const LOSS_WINDOW_EVERY: Duration = Duration::from_secs(10);

/// A relay that has not shown up by then is missed.
const RELAY_START_MAX: Duration = Duration::from_secs(5);

/// Starts the gateway and takes requests from now on.
///
/// # Errors
/// When the bus does not tell what it promises.
pub async fn open(parts: &Parts, outbox: Outbox, closed: ClosedDoor) -> Result<()> {
    let settings = settings(parts).await?;
    let listening = settings.listen.clone();
    let gateway = Gateway::new(Deps {
        store: parts.store.clone(),
        outbox,
        log: parts.accept_log().await?,
        admin: parts.admin.clone(),
        dispatcher: parts.sides.dispatcher.clone(),
        lanes: parts.config.bus.lanes(),
        sagas: crate::wiring::saga::sagas(&parts.config, &parts.store).await?,
        keys: Some(parts.keys()),
        lookups: parts.lookups()?.of_gateway(parts)?,
        limiter: parts.limiter()?,
        imports: parts.imports.clone(),
        clock: parts.clock.clone(),
        health: health(parts),
        settings,
        tasks: parts.tasks.clone(),
    });
    let listener = closed.open().await?;
    ratebox_gateway::serve(listener, gateway.router(), listening, &parts.tasks);
    Ok(())
}

async fn settings(parts: &Parts) -> Result<Settings> {
    let (config, bus) = (&parts.config.gateway, &parts.config.bus);
    let mut settings = Settings::default();
    settings.listen.connections_max = config.connections_max;
    settings.listen.head_timeout = Duration::from_millis(config.head_timeout_ms);
    settings.listen.body_timeout = Duration::from_millis(config.body_timeout_ms);
    settings.listen.idle_timeout = Duration::from_millis(config.idle_timeout_ms);
    settings.body.max_bytes = config.body_max_bytes;
    settings.body.items_max = config.items_max;
    settings.body.timeout = Duration::from_millis(config.body_timeout_ms);
    settings.auth = crate::wiring::jwt::auth(&parts.config)?;
    settings.accept.in_flight_max = config.committers;
    // A body as long as is taken has room, with what is written around its items.
    let room = config.body_max_bytes.saturating_mul(2);
    settings.accept.queue_max_bytes = settings.accept.queue_max_bytes.max(room);
    settings.accept.queue_max = config.accept_queue_max;
    settings.accept.tells_owner = parts.config.bus.fair;
    settings.accept.keys_kept = Duration::from_secs(parts.config.relay.idempotency_hours * 3600);
    settings
        .streams
        .responses
        .clone_from(&bus.extension_responses);
    settings
        .streams
        .importer_responses
        .clone_from(&bus.importer_responses);
    let mut others = bus.answer_streams_allowed.clone();
    others.extend(Some(bus.dead_letter_stream.clone()).filter(|it| !it.is_empty()));
    settings.streams.also_watched = others;
    if config.accept == Accept::Stream {
        settings.accept.mode = AcceptMode::Stream;
        settings.accept.loss_window = parts
            .admin
            .loss_window()
            .await
            .context("asking the bus for its loss window")?;
        settings.accept.loss_window_every = Some(LOSS_WINDOW_EVERY);
        if config.accept_disk_wait_ms > 0 {
            settings.accept.loss_window = Some(Duration::ZERO);
            settings.accept.loss_window_every = None;
        }
    }
    settings.lookups = parts.config.lookup.settings()?;
    settings.imports.items_max = parts.config.imports.items_max;
    settings.imports.at_once_max = parts.config.imports.at_once_max;
    limits(config, &mut settings);
    Ok(settings)
}

fn limits(config: &GatewayConfig, settings: &mut Settings) {
    settings.limits.validate = Quota::per_minute(config.limit_validate);
    settings.limits.status = Quota::per_minute(config.limit_status);
    settings.limits.batch = Quota::per_minute(config.limit_batch);
    settings.limits.import = Quota::per_minute(config.limit_import);
    settings.limits.bulk = Quota::per_minute(config.limit_bulk);
    settings.limits.import_status = Quota::per_minute(config.limit_import_status);
    settings.limits.lookup = Quota::per_minute(config.limit_lookup);
    settings.limits.import_cancel = Quota::per_minute(config.limit_import_cancel);
}

/// What `/api/health` looks at. Only what the accept mode relies on makes the process unready.
fn health(parts: &Parts) -> Health {
    let durable = parts.config.gateway.accept == Accept::Durable;
    let weight = |needed| {
        if needed {
            Weight::Needed
        } else {
            Weight::Optional
        }
    };
    let (db, admin, tasks) = (
        parts.store.db().clone(),
        parts.admin.clone(),
        parts.tasks.clone(),
    );
    let (relay_db, started) = (db.clone(), Stopwatch::start());
    Health::new()
        .check("store", weight(durable), move || {
            let db = db.clone();
            async move {
                match db.ping().await {
                    Ok(()) => Condition::Up,
                    Err(ratebox_db::Error::Full { .. }) => Condition::Down(
                        "the store has no room left; look at its disk, memory and connections",
                    ),
                    Err(error) if is_gone(&error) => Condition::Down(
                        "the store's file was removed or replaced under this process; stop it and \
                         bring the file back",
                    ),
                    Err(_) => Condition::Down("the store does not answer"),
                }
            }
        })
        .check("bus", weight(!durable), move || {
            let admin = admin.clone();
            async move {
                match admin.ping().await {
                    Ok(()) => Condition::Up,
                    Err(error) if is_gone(&error) => Condition::Down(
                        "the bus's file was removed or replaced under this process; stop it and \
                         bring the file back",
                    ),
                    Err(_) => Condition::Down("the bus does not answer"),
                }
            }
        })
        .check("relay", Weight::Optional, move || {
            let db = relay_db.clone();
            async move {
                match Relay::alive(&db).await {
                    // A relay of this very process needs a moment.
                    Ok(0) if started.elapsed() < RELAY_START_MAX => Condition::Up,
                    Ok(0) => Condition::Warn("no relay runs; start `ratebox relay`"),
                    Ok(_) => Condition::Up,
                    Err(_) => Condition::Warn("unknown while the store does not answer"),
                }
            }
        })
        .check("tasks", Weight::Needed, move || {
            let healthy = tasks.failed().is_empty();
            async move { up_if(healthy, "a background task panicked; see the log") }
        })
}

/// An embedded database that goes on working on a file that nobody finds any more.
fn is_gone(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = successors(Some(error), |it| it.source());
    causes.any(|it| {
        let database = it.downcast_ref::<ratebox_db::Error>();
        matches!(database, Some(ratebox_db::Error::Gone { .. }))
    })
}

fn up_if(well: bool, phrase: &'static str) -> Condition {
    if well {
        Condition::Up
    } else {
        Condition::Down(phrase)
    }
}
