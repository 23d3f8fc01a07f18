//! The group commit: entries of all sagas of a process, batched.
//!
//! A store that is away is waited for: the batch is tried again until it is kept, or until the
//! store says that this process was fenced. Neither loses an entry that was reported as kept.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Backoff, Causes};
use tokio::sync::{mpsc, oneshot};

use super::store::{Entry, Owner, Store, Written};
use crate::{Error, Result};

/// Entries that wait for a writer; who would add one more waits. A saga has one entry under way at
/// a time, so this is far above what a process needs.
const QUEUE_MAX: usize = 4_096;

/// How long a writer waits before it tries a batch again that an outage held up.
const OUTAGE: Backoff = Backoff {
    first: Duration::from_millis(20),
    max: Duration::from_secs(1),
};

/// An entry and who waits for it.
struct Waiting {
    entry: Entry,
    answer: oneshot::Sender<Result<Written, Refusal>>,
}

/// Why an entry was not written.
#[derive(Debug)]
enum Refusal {
    Fenced,
    /// The store will never take it.
    Never(Error),
}

/// Writes entries of one membership. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Waiting>,
}

/// The other end of a [`Writer`]: to be run by a task.
pub(crate) struct Batches {
    store: Arc<dyn Store>,
    owner: Owner,
    batch_max: usize,
    queue: Arc<tokio::sync::Mutex<mpsc::Receiver<Waiting>>>,
}

/// A writer and its loop.
pub(crate) fn writer(store: Arc<dyn Store>, owner: Owner, batch_max: usize) -> (Writer, Batches) {
    let (sender, queue) = mpsc::channel(QUEUE_MAX);
    let batches = Batches {
        store,
        owner,
        batch_max,
        queue: Arc::new(tokio::sync::Mutex::new(queue)),
    };
    (Writer { queue: sender }, batches)
}

// === impl Writer ===

impl Writer {
    /// Writes an entry; on return it is on disk.
    pub(crate) async fn write(&self, entry: Entry) -> Result<Written> {
        let (answer, answered) = oneshot::channel();
        let sent = self.queue.send(Waiting { entry, answer }).await;
        if sent.is_err() {
            return Err(Error::Fenced);
        }
        match answered.await {
            Ok(Ok(written)) => Ok(written),
            Ok(Err(Refusal::Never(error))) => Err(error),
            Ok(Err(Refusal::Fenced)) | Err(_) => Err(Error::Fenced),
        }
    }
}

// === impl Batches ===

impl Batches {
    /// Another loop on the same queue: while one batch is being committed, the next is collected.
    pub(crate) fn another(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            owner: self.owner,
            batch_max: self.batch_max,
            queue: Arc::clone(&self.queue),
        }
    }

    /// Writes batches until the process is fenced or nobody writes any more.
    pub(crate) async fn run(self) {
        let mut waiting = Vec::with_capacity(self.batch_max);
        loop {
            // The guard is dropped before the commit, so that the other loop can collect.
            let taken = {
                let mut queue = self.queue.lock().await;
                queue.recv_many(&mut waiting, self.batch_max).await
            };
            if taken == 0 || self.commit(&mut waiting).await.is_err() {
                return;
            }
        }
    }

    /// Commits one batch and answers everybody in it. What the store will never take is found by
    /// halving, so that it fails alone.
    async fn commit(&self, waiting: &mut Vec<Waiting>) -> Result<(), Fenced> {
        let mut parts = vec![std::mem::take(waiting)];
        while let Some(mut part) = parts.pop() {
            let entries: Vec<&Entry> = part.iter().map(|it| &it.entry).collect();
            match self.insist(&entries).await {
                Ok(written) => answer(part, written),
                Err(Refusal::Fenced) => return Err(Fenced),
                Err(Refusal::Never(error)) if part.len() < 2 => {
                    let one = part.pop();
                    one.map(|it| it.answer.send(Err(Refusal::Never(error))));
                }
                Err(Refusal::Never(_)) => {
                    let half = part.split_off(part.len() / 2);
                    parts.extend([half, part]);
                }
            }
        }
        Ok(())
    }

    async fn insist(&self, entries: &[&Entry]) -> Result<Vec<Written>, Refusal> {
        let mut attempt = 0;
        loop {
            match self.store.write(self.owner, entries).await {
                Ok(written) => return Ok(written),
                Err(Error::Fenced) => return Err(Refusal::Fenced),
                Err(error) if !error.is_retryable() => return Err(Refusal::Never(error)),
                Err(error) => {
                    attempt += 1;
                    tracing::warn!(
                        entries = entries.len(),
                        attempt,
                        error = %Causes(&error),
                        "the journal is away; trying again"
                    );
                    tokio::time::sleep(OUTAGE.jittered(attempt)).await;
                }
            }
        }
    }
}

/// Somebody fenced this process; its entries are answered by the end of the queue.
struct Fenced;

/// Tells everybody what became of their entry. Whoever asked may be gone.
fn answer(part: Vec<Waiting>, written: Vec<Written>) {
    let mut written = written.into_iter();
    for waiting in part {
        let told = written.next().ok_or(Refusal::Never(Error::Row {
            what: "fewer answers than entries",
        }));
        let _ = waiting.answer.send(told);
    }
}
