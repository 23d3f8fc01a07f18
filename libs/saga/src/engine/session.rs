//! One membership of this process: from joining the store until its lease is lost or the process
//! stops. All that runs under it ends with it, and what it held is read back from the journal.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ratebox_kit::{Backoff, Causes, Shutdown};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Engine;
use super::poll;
use super::runner::{Job, Refused, Runner};
use crate::ctx::Cancel;
use crate::journal::store::Owner;
use crate::journal::writer::{Writer, writer};
use crate::stats::Stats;
use crate::{Error, SagaId};

/// Sagas that wait to be run; who would add one more waits.
const JOBS_MAX: usize = 1_024;

/// How long a stop waits for attempts that run.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// How often a process tries to join.
const JOIN: Backoff = Backoff {
    first: Duration::from_millis(50),
    max: Duration::from_secs(1),
};

/// What sagas share that run under one membership.
pub(crate) struct Session {
    pub(crate) owner: Owner,
    pub(crate) writer: Writer,
    pub(crate) jobs: mpsc::Sender<Job>,
    /// This process owns nothing any more.
    pub(crate) lost: Cancel,
    /// The process stops: nothing new starts.
    pub(crate) draining: Cancel,
    reloads: Mutex<Vec<SagaId>>,
    /// Entries that the store will never take, until their sagas are read back.
    refused: Mutex<HashMap<SagaId, Refused>>,
    began: Instant,
    /// Until when the lease lasts for certain, in milliseconds since `began`.
    valid_ms: AtomicU64,
}

// === impl Session ===

impl Session {
    /// Whether the lease lasts for certain: without it nothing is started.
    pub(crate) fn is_valid(&self) -> bool {
        let now = self.began.elapsed().as_millis();
        now < u128::from(self.valid_ms.load(Ordering::SeqCst))
    }

    /// Has a saga read back from the journal.
    pub(super) fn reload(&self, saga: SagaId) {
        let mut reloads = self.reloads.lock().unwrap_or_else(|e| e.into_inner());
        reloads.push(saga);
    }

    /// Notes what was refused, for when the saga is read back.
    pub(super) fn note_refusal(&self, saga: SagaId, refused: Refused) {
        let mut all = self.refused.lock().unwrap_or_else(|e| e.into_inner());
        all.insert(saga, refused);
    }

    pub(super) fn take_refusal(&self, saga: SagaId) -> Option<Refused> {
        let mut all = self.refused.lock().unwrap_or_else(|e| e.into_inner());
        all.remove(&saga)
    }

    pub(super) fn take_reloads(&self) -> Vec<SagaId> {
        std::mem::take(&mut *self.reloads.lock().unwrap_or_else(|e| e.into_inner()))
    }

    /// The lease was renewed by a call that began at `asked`.
    fn extend(&self, asked: Instant, lease: Duration) {
        let until = asked.duration_since(self.began) + lease;
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.valid_ms.store(until, Ordering::SeqCst);
    }
}

/// Joins, works, and joins anew when the membership is lost, until the process stops.
pub(crate) async fn supervise(engine: Engine, shutdown: Shutdown) {
    let mut failures = 0;
    while !shutdown.is_stopping() && !engine.0.kill.is_cancelled() {
        let asked = Instant::now();
        let settings = &engine.0.settings;
        let join = engine.0.store.join(&settings.process, settings.lease);
        match tokio::time::timeout(settings.lease, join).await {
            Ok(Ok(owner)) => {
                failures = 0;
                engine.note_join(None);
                // Before any saga of them is started; if it cannot be told now, the poll tells it.
                let _ = tokio::time::timeout(settings.lease, engine.describe()).await;
                let stopped = Box::pin(session(&engine, owner, asked, shutdown.clone())).await;
                if stopped {
                    break;
                }
            }
            Ok(Err(error)) => {
                failures += 1;
                tracing::warn!(error = %Causes(&error), "could not join the saga journal");
                engine.note_join(Some(Causes(&error).to_string()));
                shutdown.sleep(JOIN.jittered(failures)).await;
            }
            Err(_) => {
                tracing::warn!("no answer from the saga journal; joining again");
                engine.note_join(Some("no answer from it".to_owned()));
            }
        }
    }
    engine.0.stopped.cancel();
}

/// One membership; true when the process stops.
async fn session(engine: &Engine, owner: Owner, asked: Instant, mut shutdown: Shutdown) -> bool {
    let settings = &engine.0.settings;
    let (writer, batches) = writer(Arc::clone(&engine.0.store), owner, settings.batch_max);
    let (jobs, mut queue) = mpsc::channel(JOBS_MAX);
    let session = Arc::new(Session {
        owner,
        writer,
        jobs,
        lost: Cancel::default(),
        draining: Cancel::default(),
        reloads: Mutex::default(),
        refused: Mutex::default(),
        began: asked,
        valid_ms: AtomicU64::new(0),
    });
    session.extend(asked, settings.lease);
    let mut tasks = JoinSet::new();
    for _ in 1..settings.writers {
        tasks.spawn(batches.another().run());
    }
    tasks.spawn(batches.run());
    tasks.spawn(renew(engine.clone(), Arc::clone(&session)));
    tasks.spawn(poll::poll(engine.clone(), Arc::clone(&session)));
    engine.0.session.send_replace(Some(Arc::clone(&session)));
    let left = loop {
        tokio::select! {
            biased;
            () = engine.0.kill.wait() => break false,
            () = session.lost.wait() => break false,
            () = shutdown.wait() => break true,
            Some(job) = queue.recv() => {
                tasks.spawn(Runner::run(engine.clone(), Arc::clone(&session), job));
            }
            Some(ended) = tasks.join_next() => report(ended, engine.0.stats),
        }
    };
    engine.0.session.send_replace(None);
    if left {
        session.draining.cancel();
        drain(engine, &mut tasks).await;
    }
    tasks.shutdown().await;
    engine.0.lives.clear();
    if left && let Err(error) = engine.0.store.leave(owner).await {
        tracing::warn!(error = %Causes(&error), "could not leave the saga journal; the lease will end");
    }
    left
}

/// Lets attempts that run come to their end.
async fn drain(engine: &Engine, tasks: &mut JoinSet<()>) {
    let end = Instant::now() + DRAIN_MAX;
    while engine.0.lives.len() > 0 {
        match tokio::time::timeout_at(end, tasks.join_next()).await {
            Ok(Some(ended)) => report(ended, engine.0.stats),
            Ok(None) | Err(_) => return,
        }
    }
}

fn report(ended: Result<(), tokio::task::JoinError>, stats: Stats) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a task of the saga engine panicked; its saga rests until a restart");
        stats.panicked();
    }
}

/// Keeps the lease, and says so when it is lost.
async fn renew(engine: Engine, session: Arc<Session>) {
    let settings = &engine.0.settings;
    loop {
        tokio::time::sleep(settings.renew_every).await;
        let asked = Instant::now();
        let renewal = engine.0.store.renew(session.owner, settings.lease);
        match tokio::time::timeout(settings.lease, renewal).await {
            Ok(Ok(())) => session.extend(asked, settings.lease),
            Ok(Err(Error::Fenced)) => {
                tracing::warn!("this process was taken for dead; its sagas are elsewhere now");
                return session.lost.cancel();
            }
            Ok(Err(error)) => {
                tracing::warn!(error = %Causes(&error), "could not renew the lease on the saga journal");
            }
            Err(_) => tracing::warn!("no answer from the saga journal in time for the lease"),
        }
        if !session.is_valid() {
            return session.lost.cancel();
        }
    }
}
