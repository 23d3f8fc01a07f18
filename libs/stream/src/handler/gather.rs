//! Gathers messages over several reads until there are enough, or enough time has passed.
//!
//! Nobody owns a task for it: the message that opens a batch waits for the linger time, the one
//! that fills it closes it, and whoever closes it runs the handler for all.

use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use tokio::sync::oneshot;

use super::batch::undecided;
use super::batch_function::Decisions;
use super::router::panicked;
use super::{BatchFn, Delivery, Handled};
use crate::stats;

/// How many messages one call of a batch handler gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gather {
    /// At most this many.
    pub max: usize,
    /// At most this many bytes of names and values; one message may be larger.
    pub bytes_max: usize,
    /// The first message waits at most this long for others. More come only while the consumer
    /// reads: its batches in flight bound the reads that wait here together.
    pub linger: Duration,
}

impl Default for Gather {
    /// 100 messages, 1 MiB, 50 ms.
    fn default() -> Self {
        Self {
            max: 100,
            bytes_max: 1024 * 1024,
            linger: Duration::from_millis(50),
        }
    }
}

tokio::task_local! {
    /// Set where time stands still: a batch is what is there, and nobody waits for more.
    pub(crate) static AT_ONCE: ();
}

type Calling = Pin<Box<dyn Future<Output = Decisions> + Send>>;

/// One batch handler and the batch that is open for it.
pub(crate) struct Gathering {
    gather: Gather,
    call: Box<dyn Fn(Vec<Delivery>) -> Calling + Send + Sync>,
    open: Mutex<Open>,
}

/// The batch that messages join.
#[derive(Default)]
struct Open {
    waiting: Vec<Waiting>,
    bytes: usize,
    /// Which batch it is, so that its opener does not close the next one.
    number: u64,
}

struct Waiting {
    delivery: Delivery,
    answer: oneshot::Sender<Handled>,
}

/// What a message does after it has joined.
enum Role {
    /// It opened the batch: it closes it after the linger time.
    Opener(u64),
    /// It found the batch open.
    Member,
}

// === impl Gathering ===

impl Gathering {
    pub(crate) fn new<H, Args, S>(gather: Gather, handler: H, state: Arc<S>) -> Self
    where
        H: BatchFn<Args, S>,
        S: Send + Sync + 'static,
    {
        assert!(
            gather.max > 0 && gather.bytes_max > 0,
            "a batch of nothing gathers nothing"
        );
        let call = move |deliveries| -> Calling {
            let (handler, state) = (handler.clone(), Arc::clone(&state));
            Box::pin(async move { handler.call(deliveries, state).await })
        };
        Self {
            gather,
            call: Box::new(call),
            open: Mutex::default(),
        }
    }

    /// Joins the open batch and waits for the decision.
    pub(crate) async fn submit(&self, delivery: Delivery) -> Handled {
        let (answer, answered) = oneshot::channel();
        let (role, full) = self.join(Waiting { delivery, answer });
        for batch in full {
            self.run(batch).await;
        }
        let linger = async {
            match role {
                Role::Opener(number) => self.close_after_linger(number).await,
                Role::Member => pending().await,
            }
        };
        let answered = match select(answered, pin!(linger)).await {
            Either::Left((answered, _)) => answered,
            Either::Right(((), answered)) => answered.await,
        };
        // Dropped without an answer: whoever ran the handler was stopped, or forgot this one.
        answered.unwrap_or_else(|_| Err(undecided()))
    }

    /// Adds a message; returns the batches that are closed by it.
    fn join(&self, waiting: Waiting) -> (Role, Vec<Vec<Waiting>>) {
        let bytes = waiting.delivery.meta.bytes();
        let mut open = self.open();
        let mut closed = Vec::new();
        if !open.waiting.is_empty() && open.bytes + bytes > self.gather.bytes_max {
            closed.push(open.close());
        }
        let role = if open.waiting.is_empty() {
            Role::Opener(open.number)
        } else {
            Role::Member
        };
        open.waiting.push(waiting);
        open.bytes += bytes;
        if open.waiting.len() >= self.gather.max || open.bytes >= self.gather.bytes_max {
            closed.push(open.close());
        }
        (role, closed)
    }

    async fn close_after_linger(&self, number: u64) {
        let mut abandon = Abandon {
            gathering: self,
            number: Some(number),
        };
        if AT_ONCE.try_with(|()| ()).is_ok() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(self.gather.linger).await;
        }
        abandon.number = None;
        let batch = self.close(number);
        self.run(batch).await;
    }

    /// Closes the batch if it is still open.
    fn close(&self, number: u64) -> Vec<Waiting> {
        let mut open = self.open();
        if open.number == number {
            open.close()
        } else {
            Vec::new()
        }
    }

    async fn run(&self, batch: Vec<Waiting>) {
        if batch.is_empty() {
            return;
        }
        let (deliveries, answers): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|waiting| (waiting.delivery, Some(waiting.answer)))
            .unzip();
        let mut answers: Vec<Option<oneshot::Sender<Handled>>> = answers;
        for (place, handled) in self.decide(deliveries).await {
            if let Some(answer) = answers.get_mut(place).and_then(Option::take) {
                // Nobody listens when its consumer was stopped; the message comes again.
                let _ = answer.send(handled);
            }
        }
    }

    /// Calls the handler; after a panic once for each message, so that only the one that panics
    /// alone pays for it.
    async fn decide(&self, deliveries: Vec<Delivery>) -> Decisions {
        if let Some(decisions) = self.call_caught(deliveries.clone()).await {
            return decisions;
        }
        let mut decisions = Vec::with_capacity(deliveries.len());
        let is_alone = deliveries.len() == 1;
        for (place, delivery) in deliveries.into_iter().enumerate() {
            let stream = delivery.meta.stream().clone();
            let again = if is_alone {
                None
            } else {
                self.call_caught(vec![delivery]).await
            };
            match again {
                Some(decided) => {
                    decisions.extend(decided.into_iter().map(|(_, handled)| (place, handled)));
                }
                None => {
                    stats::count(stats::PANICS, &stream, 1);
                    decisions.push((place, Err(panicked())));
                }
            }
        }
        decisions
    }

    /// `None` when the handler panicked.
    async fn call_caught(&self, deliveries: Vec<Delivery>) -> Option<Decisions> {
        let call = AssertUnwindSafe((self.call)(deliveries))
            .catch_unwind()
            .await;
        if call.is_err() {
            tracing::error!("a batch handler panicked");
        }
        call.ok()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Open ===

impl Open {
    fn close(&mut self) -> Vec<Waiting> {
        self.number += 1;
        self.bytes = 0;
        std::mem::take(&mut self.waiting)
    }
}

/// An opener that is stopped lets go of its batch: its members count as undecided and come again,
/// instead of waiting for ever.
struct Abandon<'a> {
    gathering: &'a Gathering,
    number: Option<u64>,
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            drop(self.gathering.close(number));
        }
    }
}
