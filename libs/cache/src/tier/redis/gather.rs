//! Reads of entries that are asked for at the same time go in one trip.
//!
//! A lone read goes its own way at once. Those that come while others are under way are gathered by
//! one task and sent together: the same plain `GET`s, but the client's work for each trip (a
//! message to its writer, an answer's own wake-up) is done once for all of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use ratebox_kit::Shutdown;
use ratebox_valkey::Valkey;
use tokio::sync::{Notify, oneshot};

use super::{entry, not_ours};
use crate::Error;

/// Trips under way at once; what comes meanwhile goes with the next.
const TRIPS_MAX: usize = 4;

/// Reads of one trip.
const READS_MAX: usize = 256;

type Answer = Result<Option<Bytes>, Error>;

/// Reads that wait for the next trip.
pub(super) struct Gather {
    waiting: Mutex<Waiting>,
    came: Notify,
    /// Reads under way, gathered or not.
    under_way: AtomicUsize,
}

#[derive(Default)]
struct Waiting {
    reads: Vec<Read>,
    /// Somebody takes them.
    is_served: bool,
}

struct Read {
    key: String,
    answer: oneshot::Sender<Answer>,
}

/// Counts a read while it is under way.
struct UnderWay<'a>(&'a AtomicUsize);

// === impl Gather ===

impl Gather {
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            came: Notify::new(),
            under_way: AtomicUsize::new(0),
        }
    }

    /// Reads one key.
    pub(super) async fn get(&self, valkey: &Valkey, key: String) -> Answer {
        let others = self.under_way.fetch_add(1, Ordering::Relaxed);
        let _under_way = UnderWay(&self.under_way);
        if others == 0 {
            return alone(valkey, &key).await;
        }
        match self.join(key) {
            Ok(answer) => answer.await.unwrap_or(Err(Error::GivenUp)),
            Err(key) => alone(valkey, &key).await,
        }
    }

    /// A place in the next trip; the key again when nobody gathers.
    fn join(&self, key: String) -> Result<oneshot::Receiver<Answer>, String> {
        let mut waiting = self.waiting();
        if !waiting.is_served {
            return Err(key);
        }
        let (answer, answered) = oneshot::channel();
        waiting.reads.push(Read { key, answer });
        let is_first = waiting.reads.len() == 1;
        drop(waiting);
        if is_first {
            self.came.notify_one();
        }
        Ok(answered)
    }

    /// Sends what was gathered until the process stops.
    pub(super) async fn run(&self, valkey: &Valkey, shutdown: Shutdown) {
        let _served = Serves::begin(self);
        let mut trips = FuturesUnordered::new();
        loop {
            if trips.len() < TRIPS_MAX {
                let reads = self.take();
                if !reads.is_empty() {
                    trips.push(together(valkey, reads));
                    continue;
                }
            }
            let next = async {
                tokio::select! {
                    Some(()) = trips.next(), if !trips.is_empty() => {}
                    () = self.came.notified(), if trips.len() < TRIPS_MAX => {
                        // Those who can run now will ask, too, before this goes on.
                        tokio::task::yield_now().await;
                    }
                }
            };
            if shutdown.unless(next).await.is_none() {
                return;
            }
        }
    }

    fn take(&self) -> Vec<Read> {
        let mut waiting = self.waiting();
        match waiting.reads.len() > READS_MAX {
            true => waiting.reads.drain(..READS_MAX).collect(),
            false => std::mem::take(&mut waiting.reads),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it lives, reads may be gathered.
struct Serves<'a>(&'a Gather);

impl<'a> Serves<'a> {
    fn begin(gather: &'a Gather) -> Self {
        gather.waiting().is_served = true;
        Self(gather)
    }
}

impl Drop for Serves<'_> {
    fn drop(&mut self) {
        // Who waits is told by the drop of its place.
        *self.0.waiting() = Waiting::default();
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn alone(valkey: &Valkey, key: &str) -> Answer {
    let mut get = redis::cmd("GET");
    get.arg(key);
    match valkey.query(&get).await {
        Ok(value) => entry(value),
        Err(error) => not_ours(error),
    }
}

async fn together(valkey: &Valkey, reads: Vec<Read>) {
    let mut pipe = redis::pipe();
    for read in &reads {
        pipe.cmd("GET").arg(&read.key);
    }
    // Nobody may wait any more; that is no loss.
    match valkey.pipeline(&pipe).await {
        Ok(answers) => {
            for (read, answer) in reads.into_iter().zip(answers) {
                let answer = match answer {
                    Ok(value) => entry(value),
                    Err(error) => not_ours(error),
                };
                let _ = read.answer.send(answer);
            }
        }
        Err(error) => {
            for read in reads {
                let _ = read.answer.send(Err(error.clone().into()));
            }
        }
    }
}
