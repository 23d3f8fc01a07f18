//! Looks regularly for what nobody tells: sagas of dead processes, times that have come, letters
//! posted elsewhere, ended sagas to be deleted.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Causes, Timestamp};

use super::Engine;
use super::known::Looks;
use super::runner::{Job, Origin};
use super::session::Session;
use crate::time::after;
use crate::{Result, SagaId};

/// Sagas that one call takes over, loads or wakes.
const BATCH: usize = 500;

/// After a letter of another process.
const REST: Duration = Duration::from_millis(5);

/// Polls between two looks for sagas to delete.
const SWEEP_EVERY: u32 = 120;

/// Polls between two looks for sagas that were parked for want of a definition that is here.
const LOOK_EVERY: u32 = 4;

/// Polls until its task is aborted.
pub(super) async fn poll(engine: Engine, session: Arc<Session>) {
    let every = engine.0.settings.poll_every;
    let (mut count, mut looks): (u32, Looks) = (0, Looks::default());
    loop {
        let steps = async {
            engine.describe().await?;
            adopt(&engine, &session).await?;
            activate(&engine, &session, &session.take_reloads()).await?;
            wake_due(&engine, &session).await?;
            hand_out(&engine, &session).await?;
            if count.is_multiple_of(LOOK_EVERY) {
                looks.look(&engine, &session).await?;
            }
            if count.is_multiple_of(SWEEP_EVERY) {
                sweep(&engine).await?;
            }
            Ok(())
        };
        let outcome: Result<()> = steps.await;
        match outcome {
            Ok(()) => {}
            Err(crate::Error::Fenced) => return session.lost.cancel(),
            Err(error) => {
                tracing::warn!(error = %Causes(&error), "could not look after sagas; trying again");
            }
        }
        count = count.wrapping_add(1);
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = engine.0.poke.notified() => {}
            // A moment's rest, so that many letters are one look.
            () = engine.0.store.rung() => tokio::time::sleep(REST).await,
        }
    }
}

/// Takes over what dead processes left, and what was started in transactions.
async fn adopt(engine: &Engine, session: &Arc<Session>) -> Result<()> {
    loop {
        let limit = engine.0.permits.available_permits().min(BATCH);
        if limit == 0 {
            return Ok(());
        }
        let adopted = engine.0.store.adopt(session.owner, limit).await?;
        if adopted.sagas > 0 {
            engine.0.stats.adopted(adopted.sagas);
            tracing::info!(sagas = adopted.sagas, "took sagas over");
        }
        activate(engine, session, &adopted.live).await?;
        if !adopted.more {
            return Ok(());
        }
    }
}

async fn wake_due(engine: &Engine, session: &Arc<Session>) -> Result<()> {
    // A saga that is due before the next look waits for its moment in memory.
    let until = after(engine.now(), engine.0.settings.poll_every);
    let limit = engine.0.permits.available_permits().min(BATCH);
    if limit == 0 {
        return Ok(());
    }
    let due = engine.0.store.due(session.owner, until, limit).await?;
    activate(engine, session, &due).await
}

async fn hand_out(engine: &Engine, session: &Arc<Session>) -> Result<()> {
    let letters = engine.0.store.mail(session.owner, BATCH).await?;
    let mut asleep: Vec<SagaId> = Vec::new();
    for letter in letters {
        if !engine.0.lives.tell(&letter) {
            asleep.push(letter.saga);
        }
    }
    asleep.sort_unstable();
    asleep.dedup();
    activate(engine, session, &asleep).await
}

/// Loads sagas that this process owns, and runs them. Those that it holds already stay as they
/// are. Waits for room.
pub(super) async fn activate(
    engine: &Engine,
    session: &Arc<Session>,
    sagas: &[SagaId],
) -> Result<()> {
    let mut held = std::collections::HashMap::new();
    for saga in sagas {
        if engine.0.lives.is_held(*saga) {
            continue;
        }
        let permit = Arc::clone(&engine.0.permits).acquire_owned().await;
        let Ok(permit) = permit else {
            return Ok(());
        };
        // Held first and loaded then: nobody else in this process can have written in between.
        if let Some(live) = engine.0.lives.hold(*saga, permit) {
            held.insert(*saga, live);
        }
    }
    if held.is_empty() {
        return Ok(());
    }
    let ids: Vec<SagaId> = held.keys().copied().collect();
    let loaded = match engine.0.store.load(&ids).await {
        Ok(loaded) => loaded,
        Err(error) => {
            let lives = &engine.0.lives;
            for (id, live) in &held {
                lives.drop_saga(*id, live);
                // Nobody names them again: they are this process' already.
                session.reload(*id);
            }
            return Err(error);
        }
    };
    for stored in loaded {
        let id = stored.head.id;
        if stored.head.owner != Some(session.owner) {
            continue;
        }
        if let Some(live) = held.remove(&id) {
            let origin = Origin::Stored(Box::new(stored));
            engine.run(session, Job { id, live, origin }).await;
        }
    }
    let lives = &engine.0.lives;
    held.iter()
        .for_each(|(id, live)| lives.drop_saga(*id, live));
    Ok(())
}

async fn sweep(engine: &Engine) -> Result<()> {
    let Some(keep) = engine.0.settings.keep_ended else {
        return Ok(());
    };
    let before = before(engine.now(), keep);
    loop {
        if engine.delete_ended(before, BATCH).await? < BATCH {
            return Ok(());
        }
    }
}

fn before(time: Timestamp, by: Duration) -> Timestamp {
    let by_us = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    let us = time.as_microsecond().saturating_sub(by_us);
    Timestamp::from_microsecond(us).unwrap_or(Timestamp::MIN)
}
