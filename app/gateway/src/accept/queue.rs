//! The bounded queue before the promise, and the task that empties it batch by batch.

use std::sync::Arc;

use ratebox_kit::{Stopwatch, Tasks};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};

use super::{Accepted, Durable, EntryRef, Outcome, Refusal, Streamed, Submission};
use crate::settings::AcceptSettings;
use crate::stats::{self, AcceptStats};

/// A submission that waits, and who waits for it.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(super) submission: Submission,
    reply: oneshot::Sender<Outcome>,
    /// Its share of the queue's bytes, until it is answered.
    _room: OwnedSemaphorePermit,
}

impl Ticket {
    /// Answers that it was taken.
    pub(super) fn taken(self, entry: Option<EntryRef>) {
        let accepted = Accepted {
            id: self.submission.id(),
            answer: self.submission.answer,
            entry,
            replayed: false,
        };
        let _ = self.reply.send(Ok(accepted));
    }

    /// Answers; whoever has gone away is not missed.
    pub(super) fn answer(self, outcome: Outcome) {
        let _ = self.reply.send(outcome);
    }
}

/// Answers everyone with the same refusal.
pub(super) fn refuse_all(tickets: Vec<Ticket>, refusal: Refusal) {
    stats::accept_refused(refusal.as_str(), tickets.len());
    for ticket in tickets {
        ticket.answer(Err(refusal));
    }
}

/// What keeps a batch. A closed set: the settings choose.
pub(crate) enum Backend {
    Durable(Durable),
    Stream(Streamed),
}

impl Backend {
    /// Keeps what it can and answers every ticket.
    async fn take(&self, tickets: Vec<Ticket>) {
        match self {
            Self::Durable(durable) => durable.take(tickets).await,
            Self::Stream(stream) => stream.take(tickets).await,
        }
    }
}

/// The handle of the queue. The task behind it ends when the last handle is gone and everybody
/// is answered.
#[derive(Debug)]
pub(crate) struct Queue {
    tickets: mpsc::Sender<Ticket>,
    room: Arc<Semaphore>,
    stats: Arc<AcceptStats>,
}

impl Queue {
    /// Starts the task.
    pub(crate) fn start(backend: Backend, settings: &AcceptSettings, tasks: &Tasks) -> Self {
        let (tickets, waiting) = mpsc::channel(settings.queue_max.max(1));
        let stats = Arc::new(AcceptStats::new());
        stats::begin_refusals(&Refusal::COUNTED.map(Refusal::as_str));
        let crew = Crew {
            backend: Arc::new(backend),
            in_flight_max: settings.in_flight_max.max(1),
            batch_max: settings.batch_max.max(1),
            stats: Arc::clone(&stats),
            tasks: tasks.clone(),
        };
        tasks.spawn("gateway-accept", crew.run(waiting));
        let room = settings.queue_max_bytes.min(Semaphore::MAX_PERMITS);
        Self {
            tickets,
            room: Arc::new(Semaphore::new(room)),
            stats,
        }
    }

    /// Hands a submission in and waits for its outcome. Dropping this future loses the outcome,
    /// not the submission.
    pub(crate) async fn submit(&self, submission: Submission) -> Outcome {
        let bytes = u32::try_from(submission.bytes()).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(bytes) else {
            stats::accept_refused(Refusal::Busy.as_str(), 1);
            return Err(Refusal::Busy);
        };
        let requests = submission.requests();
        let accepted = self.stats.accepted(submission.source());
        let (reply, outcome) = oneshot::channel();
        let ticket = Ticket {
            submission,
            reply,
            _room: room,
        };
        if let Err(error) = self.tickets.try_send(ticket) {
            let refusal = match error {
                mpsc::error::TrySendError::Full(_) => Refusal::Busy,
                mpsc::error::TrySendError::Closed(_) => Refusal::Failed,
            };
            stats::accept_refused(refusal.as_str(), 1);
            return Err(refusal);
        }
        let outcome = outcome.await.unwrap_or(Err(Refusal::Failed));
        if outcome.is_ok() {
            accepted.increment(u64::try_from(requests).unwrap_or(u64::MAX));
        }
        outcome
    }
}

/// Takes batches from the queue.
struct Crew {
    backend: Arc<Backend>,
    in_flight_max: usize,
    batch_max: usize,
    stats: Arc<AcceptStats>,
    tasks: Tasks,
}

impl Crew {
    async fn run(self, mut waiting: mpsc::Receiver<Ticket>) {
        let mut under_way = JoinSet::new();
        loop {
            // First a free place, then the batch: while there is none, the batch grows.
            while under_way.len() >= self.in_flight_max {
                self.ended(under_way.join_next().await);
            }
            let mut batch = Vec::new();
            if waiting.recv_many(&mut batch, self.batch_max).await == 0 {
                break;
            }
            // Connections that are ready to submit come first, or a burst's first batch is one.
            tokio::task::yield_now().await;
            while batch.len() < self.batch_max
                && let Ok(ticket) = waiting.try_recv()
            {
                batch.push(ticket);
            }
            let backend = Arc::clone(&self.backend);
            let stats = Arc::clone(&self.stats);
            // Boxed: it is large, and a task's future is copied when it begins and when it ends.
            under_way.spawn(Box::pin(async move {
                let watch = Stopwatch::start();
                let submissions = batch.len();
                backend.take(batch).await;
                stats.batch(submissions, watch.elapsed());
            }));
        }
        while let Some(ended) = under_way.join_next().await {
            self.ended(Some(ended));
        }
    }

    /// A panic cost one batch, whose senders were answered by its end. It is raised again in a
    /// task that is watched, so that health turns red.
    fn ended(&self, ended: Option<Result<(), JoinError>>) {
        if let Some(Err(error)) = ended
            && let Ok(panic) = error.try_into_panic()
        {
            self.tasks.spawn("gateway-accept-batch", async move {
                std::panic::resume_unwind(panic);
            });
        }
    }
}
