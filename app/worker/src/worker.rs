//! The handler: a batch of entries in, one outcome for each out.

use std::sync::Arc;

use async_trait::async_trait;
use ratebox_kit::{Causes, Clock, Stopwatch, Tasks, Timestamp};
use ratebox_outbox::{Inbox, Outbox};
use ratebox_store::{Error, Store};
use ratebox_stream::{Entry, Handler, Outcome};

use crate::judge::{self, Judged};
use crate::lookups::{LookupCaches, Teller};
use crate::record::{Recorded, Recorder};
use crate::slots::Slots;
use crate::stats::{self, Stats};
use crate::{Settings, message};

/// The name of the workers in the inbox. A request that is marked under it is judged no more.
pub const INBOX: &str = "validator";

/// Judges what the bus brings and keeps the verdicts.
pub struct Worker {
    recorder: Recorder,
    clock: Clock,
    settings: Arc<Settings>,
    stats: Stats,
    lookups: Option<Arc<Teller>>,
}

impl Worker {
    /// A worker that keeps its verdicts in `store` and answers through `outbox`.
    pub fn new(store: Store, outbox: Outbox, settings: Settings) -> Self {
        let settings = Arc::new(settings);
        let inbox = Inbox::new(INBOX, settings.stream.as_str());
        let clock = store.clock().clone();
        let recorder = Recorder {
            store,
            outbox,
            inbox,
            settings: Arc::clone(&settings),
            slots: Slots::default(),
        };
        Self {
            recorder,
            clock,
            settings,
            stats: Stats::new(),
            lookups: None,
        }
    }

    /// Tells the caches of look-ups what it records, from a task of its own.
    #[must_use]
    pub fn with_lookups(mut self, caches: Arc<dyn LookupCaches>, tasks: &Tasks) -> Self {
        self.lookups = Some(Teller::start(caches, tasks));
        self
    }
}

#[async_trait]
impl Handler for Worker {
    /// Judges one batch and records it in one transaction. An entry can only be acknowledged with
    /// the proof that its commit returned.
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        let (started_at, watch) = (self.clock.now(), Stopwatch::start());
        let (tasks, mut outcomes) = message::decode_all(batch, &self.settings);
        let judged = judge::all(tasks, &self.settings, started_at, watch);
        if !judged.is_empty() {
            outcomes.extend(self.keep(judged, started_at).await);
        }
        self.stats.batch(watch.elapsed().as_secs_f64());
        outcomes
    }

    async fn is_ready(&self) -> bool {
        self.recorder.store.db().ping().await.is_ok()
    }
}

impl Worker {
    /// Records a batch. When some row of it is refused, the batch is halved until that row stands
    /// alone, so that one bad message never costs the others.
    async fn keep(&self, judged: Vec<Judged>, started_at: Timestamp) -> Vec<Outcome> {
        let mut waiting = vec![judged];
        let mut outcomes = Vec::new();
        while let Some(mut batch) = waiting.pop() {
            match self.recorder.record(&batch, started_at).await {
                Ok(recorded) => outcomes.extend(self.done(batch, recorded).await),
                Err(error) if error.is_data() && batch.len() > 1 => {
                    stats::split();
                    let rest = batch.split_off(batch.len() / 2);
                    waiting.extend([rest, batch]);
                }
                Err(error) if error.is_data() => {
                    outcomes.extend(self.refused(batch, &error).await);
                }
                Err(error) => {
                    let paused = waiting.drain(..).flatten().chain(batch);
                    outcomes.extend(paused.map(|it| pause(it, &error)));
                }
            }
        }
        outcomes
    }

    async fn done(&self, batch: Vec<Judged>, recorded: Recorded) -> Vec<Outcome> {
        let Recorded {
            proof,
            answers,
            is_new,
        } = recorded;
        let new = batch.iter().zip(&is_new).filter(|(_, is_new)| **is_new);
        let new = new.map(|(it, _)| it);
        self.stats.judged(new.clone(), self.clock.now());
        if let Some(lookups) = &self.lookups {
            lookups.note(new);
        }
        self.recorder.outbox.publish(answers, &proof).await;
        let done = |it: Judged| Outcome::Done {
            entry: it.task.entry,
            proof: proof.clone(),
        };
        batch.into_iter().map(done).collect()
    }

    /// The database refuses this very message. It is tried again a few times, then it is a dead
    /// letter; until then its sender reads `processing`.
    async fn refused(&self, batch: Vec<Judged>, error: &Error) -> Vec<Outcome> {
        let ids = batch.iter().map(|it| it.task.request.request_id).collect();
        if let Err(error) = self.recorder.store.mark_processing(ids).await {
            tracing::warn!(error = %Causes(&error), "a pending retry could not be shown");
        }
        let retry = |it: Judged| Outcome::Retry {
            entry: it.task.entry,
            error: Causes(error).to_string(),
            code: error.code().to_owned(),
        };
        batch.into_iter().map(retry).collect()
    }
}

fn pause(judged: Judged, error: &Error) -> Outcome {
    Outcome::Pause {
        entry: judged.task.entry,
        error: Causes(error).to_string(),
        code: error.code().to_owned(),
    }
}
