//! A queue in this process: for tests, and where a write may be lost with the process.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::{Backoff, PortError, Shutdown, Stopwatch};
use tokio::sync::Notify;

use super::{Apply, QueuedWrite, WriteQueue};
use crate::Error;

/// What a queue in memory takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryQueueSettings {
    /// Keys that may wait; one more is refused.
    pub keys_max: usize,
    /// Tries before a write is given up.
    pub tries_max: u32,
    /// Pauses between the tries of one write.
    pub backoff: Backoff,
    /// Writes that are kept after they were given up; the oldest make room.
    pub dead_max: usize,
}

impl Default for MemoryQueueSettings {
    fn default() -> Self {
        Self {
            keys_max: 10_000,
            tries_max: 10,
            backoff: Backoff {
                first: Duration::from_millis(100),
                max: Duration::from_secs(30),
            },
            dead_max: 1_000,
        }
    }
}

/// A write that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadWrite {
    /// The write.
    pub write: QueuedWrite,
    /// How often it was tried.
    pub tries: u32,
    /// What the last error said; never a value.
    pub error: String,
}

/// A queue in this process.
pub struct MemoryQueue {
    settings: MemoryQueueSettings,
    state: Mutex<State>,
    arrived: Notify,
    running: Stopwatch,
}

/// A cache and a key.
type Place = (String, String);

#[derive(Default)]
struct State {
    /// Keys in the order of their turn.
    turns: VecDeque<Place>,
    waiting: HashMap<Place, Waiting>,
    busy: HashSet<Place>,
    dead: VecDeque<DeadWrite>,
}

/// The newest write of a key; those before it are left out.
struct Waiting {
    write: QueuedWrite,
    tries: u32,
    not_before: Duration,
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Did,
    /// Nothing is due before then.
    Idle(Option<Duration>),
}

// === impl MemoryQueue ===

impl MemoryQueue {
    /// An empty queue.
    pub fn new(settings: MemoryQueueSettings) -> Self {
        Self {
            settings,
            state: Mutex::default(),
            arrived: Notify::new(),
            running: Stopwatch::start(),
        }
    }

    /// Applies writes until the process stops. Several may run; a key is with one at a time.
    pub async fn run(&self, apply: &dyn Apply, shutdown: Shutdown) {
        while !shutdown.is_stopping() {
            let Step::Idle(until) = self.step(apply).await else {
                continue;
            };
            let pause = until.map_or(Duration::from_secs(1), |until| {
                until.saturating_sub(self.running.elapsed())
            });
            let arrived = tokio::time::timeout(pause, self.arrived.notified());
            let _ = shutdown.unless(arrived).await;
        }
    }

    /// Applies what waits, each once, for the end of a process; answers how many still wait.
    pub async fn drain(&self, apply: &dyn Apply) -> usize {
        for _ in 0..self.waiting() {
            if self.step(apply).await != Step::Did {
                break;
            }
        }
        self.waiting()
    }

    /// Keys that wait.
    pub fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    /// Writes that were given up, oldest first.
    pub fn dead(&self) -> Vec<DeadWrite> {
        self.state().dead.iter().cloned().collect()
    }

    async fn step(&self, apply: &dyn Apply) -> Step {
        let (place, write) = match self.take() {
            Ok(taken) => taken,
            Err(until) => return Step::Idle(until),
        };
        let applied = apply.apply(&write).await;
        if let Some(write) = self.settle(&place, &write, applied) {
            apply.give_up(&write).await;
        }
        self.arrived.notify_one();
        Step::Did
    }

    /// The next write that is due; else when one will be.
    fn take(&self) -> Result<(Place, QueuedWrite), Option<Duration>> {
        let now = self.running.elapsed();
        let mut state = self.state();
        let mut next: Option<Duration> = None;
        for _ in 0..state.turns.len() {
            let Some(place) = state.turns.pop_front() else {
                break;
            };
            let Some(waiting) = state.waiting.get(&place) else {
                continue;
            };
            let (due, write) = (waiting.not_before, waiting.write.clone());
            if due > now || state.busy.contains(&place) {
                next = Some(next.map_or(due, |next| next.min(due)));
                state.turns.push_back(place);
                continue;
            }
            state.busy.insert(place.clone());
            return Ok((place, write));
        }
        Err(next)
    }

    /// Notes how a write went; the write itself when it was given up.
    fn settle(
        &self,
        place: &Place,
        write: &QueuedWrite,
        applied: Result<(), Error>,
    ) -> Option<QueuedWrite> {
        let now = self.running.elapsed();
        let mut state = self.state();
        state.busy.remove(place);
        let waiting = state.waiting.get_mut(place)?;
        if waiting.write.id != write.id {
            // A newer one came meanwhile: it is next, whatever became of this.
            state.turns.push_back(place.clone());
            return None;
        }
        let Err(error) = applied else {
            state.waiting.remove(place);
            return None;
        };
        waiting.tries += 1;
        let tries = waiting.tries;
        if error.is_retryable() && tries < self.settings.tries_max {
            waiting.not_before = now + self.settings.backoff.jittered(tries);
            state.turns.push_back(place.clone());
            return None;
        }
        state.waiting.remove(place);
        if state.dead.len() >= self.settings.dead_max {
            state.dead.pop_front();
        }
        state.dead.push_back(DeadWrite {
            write: write.clone(),
            tries,
            error: error.to_string(),
        });
        Some(write.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl WriteQueue for MemoryQueue {
    async fn append(&self, write: QueuedWrite) -> Result<(), PortError> {
        let place = (write.cache.clone(), write.key.clone());
        let mut state = self.state();
        let waiting = Waiting {
            write,
            tries: 0,
            not_before: Duration::ZERO,
        };
        if let Some(there) = state.waiting.get_mut(&place) {
            *there = waiting;
        } else if state.waiting.len() >= self.settings.keys_max {
            return Err(PortError::new("the write queue is full", Error::Overloaded));
        } else {
            state.waiting.insert(place.clone(), waiting);
            state.turns.push_back(place);
        }
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    async fn newest(&self, cache: &str, key: &str) -> Result<Option<QueuedWrite>, PortError> {
        let place = (cache.to_owned(), key.to_owned());
        let newest = self.state().waiting.get(&place).map(|it| it.write.clone());
        Ok(newest)
    }
}
