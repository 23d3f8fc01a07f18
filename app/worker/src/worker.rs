//! The handler: a batch of entries in, one outcome for each out.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use ratebox_kit::{Causes, Clock, Stopwatch, Tasks};
use ratebox_outbox::{Inbox, Outbox};
use ratebox_store::{Error, Rewrite, Store};
use ratebox_stream::{Entry, Handler, Outcome};

use crate::judge::Taken;
use crate::kept::Kept;
use crate::lookups::{LookupCaches, Teller};
use crate::message::Message;
use crate::record::{Read, Recorded, Recorder};
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
            meets_known: AtomicBool::new(false),
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
        let taken = Taken {
            at: self.clock.now(),
            watch: Stopwatch::start(),
        };
        let outcomes = self.keep(batch, taken).await;
        self.stats.batch(taken.watch.elapsed().as_secs_f64());
        outcomes
    }

    async fn is_ready(&self) -> bool {
        self.recorder.store.db().ping().await.is_ok()
    }
}

impl Worker {
    /// Records a batch. When some row of it is refused, the batch is halved until that row stands
    /// alone, so that one bad message never costs the others.
    async fn keep(&self, batch: Vec<Entry>, taken: Taken) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut waiting = vec![batch];
        while let Some(entries) = waiting.pop() {
            let (mut batch, kept) = self.read(entries, taken, &mut outcomes);
            if batch.is_empty() {
                continue;
            }
            match self.recorder.record(&batch, kept, taken).await {
                Ok(recorded) => outcomes.extend(self.done(batch, recorded).await),
                Err(error) if error.is_data() && batch.len() > 1 => {
                    stats::split();
                    let rest = batch.split_off(batch.len() / 2);
                    waiting.extend([entries_of(rest), entries_of(batch)]);
                }
                Err(error) if error.is_data() => {
                    outcomes.extend(self.refused(batch, &error).await);
                }
                Err(error) => {
                    let paused = waiting.drain(..).flatten().chain(entries_of(batch));
                    outcomes.extend(paused.map(|it| pause(it, &error)));
                }
            }
        }
        outcomes
    }

    /// Reads and judges a batch; what cannot be read has its outcome at once.
    fn read(
        &self,
        entries: Vec<Entry>,
        taken: Taken,
        outcomes: &mut Vec<Outcome>,
    ) -> (Vec<Read>, Kept<'_>) {
        let mut kept = Kept::new(&self.settings, taken, Rewrite::Never);
        let mut batch = Vec::with_capacity(entries.len());
        for entry in entries {
            match Message::read(&entry, &self.settings) {
                Ok(message) => {
                    kept.add(&entry, &message);
                    let id = message.request.request_id;
                    batch.push(Read { id, entry });
                }
                Err(malformed) => outcomes.push(message::undecodable(entry, &malformed)),
            }
        }
        (batch, kept)
    }

    async fn done(&self, batch: Vec<Read>, recorded: Recorded) -> Vec<Outcome> {
        let Recorded {
            proof,
            answers,
            tally,
        } = recorded;
        self.stats.judged(&tally, self.clock.now());
        if let Some(lookups) = &self.lookups {
            lookups.note(&tally.buckets);
        }
        self.recorder.outbox.publish(answers, &proof).await;
        let done = |it: Read| Outcome::Done {
            entry: it.entry,
            proof: proof.clone(),
        };
        batch.into_iter().map(done).collect()
    }

    /// The database refuses this very message. It is tried again a few times, then it is a dead
    /// letter; until then its sender reads `processing`.
    async fn refused(&self, batch: Vec<Read>, error: &Error) -> Vec<Outcome> {
        let ids = batch.iter().map(|it| it.id).collect();
        if let Err(error) = self.recorder.store.mark_processing(ids).await {
            tracing::warn!(error = %Causes(&error), "a pending retry could not be shown");
        }
        let retry = |it: Read| Outcome::Retry {
            entry: it.entry,
            error: Causes(error).to_string(),
            code: error.code().to_owned(),
        };
        batch.into_iter().map(retry).collect()
    }
}

fn entries_of(batch: Vec<Read>) -> Vec<Entry> {
    batch.into_iter().map(|it| it.entry).collect()
}

fn pause(entry: Entry, error: &Error) -> Outcome {
    Outcome::Pause {
        entry,
        error: Causes(error).to_string(),
        code: error.code().to_owned(),
    }
}
