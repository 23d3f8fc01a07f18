//! One load for all who ask at the same time.
//!
//! The first to ask leads, the others follow. Who comes after a change of the key does not follow a
//! load that began before it: such a flight is replaced, and its followers keep what they came for.

mod sync;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError};

use quick_cache::DefaultHashBuilder;
use sync::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::Error;
use crate::generations::Moment;
use crate::held::Held;
use crate::view::View;

/// Locks over the flights.
const SHARDS: usize = 32;

type Open<V> = HashMap<Arc<str>, Arc<Flight<V>>, DefaultHashBuilder>;

/// The flights of one cache.
pub(crate) struct Flights<V> {
    shards: Box<[Mutex<Open<V>>]>,
    hasher: DefaultHashBuilder,
}

/// One load under way.
pub(crate) struct Flight<V> {
    /// When it was begun.
    start: Moment,
    /// What may stand in for what it brings, found on its way.
    spare: OnceLock<Arc<Held<V>>>,
    outcome: OnceLock<Outcome<V>>,
    /// Told of its end, and of what may stand in.
    landed: Notify,
}

/// How a load ended.
pub(crate) enum Outcome<V> {
    /// With this.
    Answer(Arc<Held<V>>),
    /// With this error.
    Failed(Error),
    /// Not at all: somebody else has to lead.
    GivenUp,
}

/// A place in a flight.
pub(crate) enum Seat<V> {
    /// The first: whoever has it must bring the load to its end.
    Lead(Lead<V>),
    /// One of the others.
    Follow(Arc<Flight<V>>),
}

/// The duty to end a flight; dropped, it ends it as given up.
pub(crate) struct Lead<V> {
    flights: Arc<Flights<V>>,
    pub(crate) key: Arc<str>,
    pub(crate) flight: Arc<Flight<V>>,
}

impl<V> Clone for Outcome<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Answer(held) => Self::Answer(Arc::clone(held)),
            Self::Failed(error) => Self::Failed(error.clone()),
            Self::GivenUp => Self::GivenUp,
        }
    }
}

// === impl Flights ===

impl<V> Flights<V> {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Open::default())).collect(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Takes a place in the flight of a key.
    pub(crate) fn join(self: &Arc<Self>, key: &str, name: &str, view: &View) -> Seat<V> {
        let mut shard = self.shard(key);
        if let Some(flight) = shard.get(key)
            && view.generations.key_holds(name, flight.start)
        {
            return Seat::Follow(Arc::clone(flight));
        }
        let flight = Arc::new(Flight {
            start: view.generations.now(),
            spare: OnceLock::new(),
            outcome: OnceLock::new(),
            landed: Notify::new(),
        });
        let key: Arc<str> = key.into();
        shard.insert(Arc::clone(&key), Arc::clone(&flight));
        drop(shard);
        Seat::Lead(Lead {
            flights: Arc::clone(self),
            key,
            flight,
        })
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, Open<V>> {
        #[expect(clippy::cast_possible_truncation, reason = "less than SHARDS")]
        let index = (self.hasher.hash_one(key) % SHARDS as u64) as usize;
        let shard = self.shards.get(index).expect("the index is below SHARDS");
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Flight ===

impl<V> Flight<V> {
    /// When it was begun.
    pub(crate) fn start(&self) -> Moment {
        self.start
    }

    /// This may stand in for what it brings.
    pub(crate) fn set_spare(&self, held: Arc<Held<V>>) {
        // The first one found is as good as any.
        if self.spare.set(held).is_ok() {
            self.landed.notify_waiters();
        }
    }

    /// What may stand in for what it brings.
    pub(crate) fn spare(&self) -> Option<&Arc<Held<V>>> {
        self.spare.get()
    }

    /// Waits for its end.
    pub(crate) async fn landed(&self) -> Outcome<V> {
        self.told(|| self.outcome.get().cloned()).await
    }

    /// Waits until something may stand in for what it brings; for ever when nothing does.
    pub(crate) async fn spared(&self) -> Arc<Held<V>> {
        self.told(|| self.spare.get().cloned()).await
    }

    async fn told<T>(&self, look: impl Fn() -> Option<T>) -> T {
        loop {
            let mut told = std::pin::pin!(self.landed.notified());
            // Counts from here, so that news between the look and the wait are not missed.
            told.as_mut().enable();
            if let Some(news) = look() {
                return news;
            }
            told.await;
        }
    }
}

// === impl Lead ===

impl<V> Lead<V> {
    /// Ends the flight, if it was not told how it ended.
    pub(crate) fn land(self, outcome: Outcome<V>) {
        self.tell(outcome);
    }

    /// Ends the flight for all who follow, while its lead still has something to do.
    pub(crate) fn tell(&self, outcome: Outcome<V>) {
        if self.flight.outcome.set(outcome).is_err() {
            return;
        }
        let mut shard = self.flights.shard(&self.key);
        let ours = shard.get(&*self.key);
        if ours.is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            shard.remove(&*self.key);
        }
        drop(shard);
        self.flight.landed.notify_waiters();
    }
}

impl<V> Drop for Lead<V> {
    fn drop(&mut self) {
        self.tell(Outcome::GivenUp);
    }
}
