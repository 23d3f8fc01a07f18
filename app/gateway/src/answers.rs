//! Waiting for answers: one reader a stream of answers, many waiting clients.
//!
//! Every gateway reads every answer with its own cursor and wakes whoever waits for it. That is
//! quick, and nothing more: the store is the truth, so whoever waits also looks there every so
//! often, and an answer that the stream lost is only late. While nobody waits the streams are left
//! alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use ratebox_kit::{Backoff, Causes, Shutdown, Stopwatch, Tasks};
use ratebox_stream::{Entry, Log, StreamName, field};
use serde::Deserialize;
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use crate::settings::{AnswerSettings, StreamSettings};
use crate::stats;

/// After a stream could not be read.
const RETRY: Backoff = Backoff {
    first: Duration::from_millis(100),
    max: Duration::from_secs(5),
};
/// A client waits for the readers to be ready no longer than this; the store helps it then.
const READY_MAX: Duration = Duration::from_millis(250);

/// An answer as it came by.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) owner: String,
    /// The response envelope, JSON.
    pub(crate) body: Bytes,
}

/// The waiting clients.
#[derive(Debug)]
pub(crate) struct Answers {
    settings: AnswerSettings,
    waiters: Mutex<Waiters>,
    /// How many clients wait.
    waiting: watch::Sender<usize>,
    /// How many readers have a place in their stream.
    ready: watch::Sender<usize>,
    readers: usize,
}

#[derive(Debug, Default)]
struct Waiters {
    next: u64,
    by_request: HashMap<Uuid, Vec<(u64, oneshot::Sender<Answer>)>>,
    count: usize,
}

/// One client's wait for one answer. Dropping it ends the wait.
#[derive(Debug)]
pub(crate) struct Waiter {
    answers: Arc<Answers>,
    request: Uuid,
    number: u64,
    /// Gone once it has told.
    answer: Option<oneshot::Receiver<Answer>>,
}

impl Answers {
    /// Starts the readers; they end with the process.
    pub(crate) fn start(
        log: &Arc<dyn Log>,
        streams: &StreamSettings,
        settings: AnswerSettings,
        tasks: &Tasks,
    ) -> Arc<Self> {
        let mut names = vec![StreamName::new(&streams.responses)];
        if streams.importer_responses != streams.responses {
            names.push(StreamName::new(&streams.importer_responses));
        }
        let answers = Arc::new(Self {
            settings,
            waiters: Mutex::default(),
            waiting: watch::channel(0).0,
            ready: watch::channel(0).0,
            readers: names.len(),
        });
        for stream in names {
            let reader = Reader {
                answers: Arc::clone(&answers),
                log: Arc::clone(log),
                stream,
                shutdown: tasks.shutdown(),
            };
            tasks.spawn(format!("gateway-answers-{}", reader.stream), reader.run());
        }
        answers
    }

    /// Waits for the answer to a request from now on; `None` when too many wait. Take it before
    /// looking into the store, or an answer between the two is missed.
    pub(crate) async fn waiter(self: &Arc<Self>, request: Uuid) -> Option<Waiter> {
        let waiter = self.join(request)?;
        let mut ready = self.ready.subscribe();
        let all = ready.wait_for(|ready| *ready >= self.readers);
        // In time or not: without a reader the store is looked at.
        let _ = tokio::time::timeout(READY_MAX, all).await;
        Some(waiter)
    }

    fn join(self: &Arc<Self>, request: Uuid) -> Option<Waiter> {
        let (tell, answer) = oneshot::channel();
        let mut waiters = self.waiters();
        if waiters.count >= self.settings.waiters_max {
            return None;
        }
        waiters.count += 1;
        waiters.next += 1;
        let number = waiters.next;
        waiters
            .by_request
            .entry(request)
            .or_default()
            .push((number, tell));
        self.count(waiters.count);
        drop(waiters);
        Some(Waiter {
            answers: Arc::clone(self),
            request,
            number,
            answer: Some(answer),
        })
    }

    fn leave(&self, request: Uuid, number: u64) {
        let mut waiters = self.waiters();
        waiters.count -= 1;
        if let Some(list) = waiters.by_request.get_mut(&request) {
            list.retain(|(its, _)| *its != number);
            if list.is_empty() {
                waiters.by_request.remove(&request);
            }
        }
        self.count(waiters.count);
    }

    fn count(&self, count: usize) {
        self.waiting.send_replace(count);
        stats::waiters(count);
    }

    /// Wakes whoever waits for one of these.
    fn tell(&self, entries: &[Entry]) {
        for entry in entries {
            if *self.waiting.borrow() == 0 {
                return;
            }
            let Some(body) = entry.field(field::DATA) else {
                continue;
            };
            let Ok(head) = serde_json::from_slice::<Head>(body) else {
                continue;
            };
            let listeners = self
                .waiters()
                .by_request
                .remove(&head.id)
                .unwrap_or_default();
            for (_, listener) in listeners {
                let answer = Answer {
                    owner: head.owner.clone(),
                    body: body.clone(),
                };
                let _ = listener.send(answer);
            }
        }
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// What is read of an answer here.
#[derive(Deserialize)]
struct Head {
    id: Uuid,
    owner: String,
}

// === impl Waiter ===

impl Waiter {
    /// The answer, if it comes by within `time`.
    pub(crate) async fn within(&mut self, time: Duration) -> Option<Answer> {
        let told = async {
            if let Some(answer) = &mut self.answer {
                let told = answer.await;
                self.answer = None;
                if let Ok(told) = told {
                    return told;
                }
            }
            // It has told before, or never will; then only the time passes.
            std::future::pending().await
        };
        tokio::time::timeout(time, told).await.ok()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.answers.leave(self.request, self.number);
    }
}

/// Reads one stream of answers.
struct Reader {
    answers: Arc<Answers>,
    log: Arc<dyn Log>,
    stream: StreamName,
    shutdown: Shutdown,
}

impl Reader {
    async fn run(self) {
        let shutdown = self.shutdown.clone();
        shutdown.unless(self.work()).await;
    }

    async fn work(&self) {
        let mut waiting = self.answers.waiting.subscribe();
        loop {
            if waiting.wait_for(|waiting| *waiting > 0).await.is_err() {
                return;
            }
            self.read_while_somebody_waits(&mut waiting).await;
        }
    }

    /// Reads from the newest entry on, until nobody has waited for long.
    async fn read_while_somebody_waits(&self, waiting: &mut watch::Receiver<usize>) {
        let settings = &self.answers.settings;
        let (mut cursor, mut failures) = (None, 0_u32);
        let mut quiet = Stopwatch::start();
        while quiet.elapsed() < settings.rest_after {
            let first = cursor.is_none();
            let wait = if first {
                Duration::ZERO
            } else {
                settings.read_wait
            };
            match self
                .log
                .tail(&self.stream, cursor, settings.read_max, wait)
                .await
            {
                Ok(tail) => {
                    failures = 0;
                    cursor = Some(tail.next);
                    self.answers.tell(&tail.entries);
                }
                Err(error) => {
                    failures += 1;
                    if failures == 1 {
                        tracing::warn!(stream = %self.stream, cause = %Causes(&error),
                            "answers cannot be read; waiting clients look into the store");
                    }
                    tokio::time::sleep(RETRY.jittered(failures)).await;
                }
            }
            if first && cursor.is_some() {
                self.answers.ready.send_modify(|ready| *ready += 1);
            }
            if *waiting.borrow_and_update() > 0 {
                quiet = Stopwatch::start();
            }
        }
        if cursor.is_some() {
            self.answers.ready.send_modify(|ready| *ready -= 1);
        }
    }
}
