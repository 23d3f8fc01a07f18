//! A tier in this process. Bounded: entries by their bytes, leases by their ends, counts by their
//! number; a count that was dropped is never given again, so what relied on it is a miss.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use quick_cache::sync::Cache;
use ratebox_kit::Stopwatch;
use uuid::Uuid;

use super::{Ensured, Store, Taken, Usage};
use crate::Error;
use crate::entry::stamp_of;

/// Counts of tags kept at most.
const COUNTS_MAX: usize = 100_000;

/// Bytes that an entry costs beside its own.
const OVERHEAD: u64 = 128;

pub(crate) struct Memory {
    state: Mutex<State>,
    running: Stopwatch,
}

struct State {
    entries: Cache<Box<str>, Kept, Weigh>,
    leases: HashMap<Box<str>, Lease>,
    counts: Cache<Box<str>, u64>,
    last_count: u64,
}

#[derive(Clone)]
struct Kept {
    entry: Bytes,
    until: Duration,
}

struct Lease {
    token: Uuid,
    until: Duration,
}

#[derive(Clone)]
struct Weigh;

impl quick_cache::Weighter<Box<str>, Kept> for Weigh {
    fn weight(&self, name: &Box<str>, kept: &Kept) -> u64 {
        (name.len() + kept.entry.len()) as u64 + OVERHEAD
    }
}

// === impl Memory ===

impl Memory {
    pub(crate) fn new(bytes_max: u64) -> Self {
        let items = usize::try_from(bytes_max / 1_024).unwrap_or(usize::MAX);
        Self {
            state: Mutex::new(State {
                entries: Cache::with_weighter(items.clamp(16, 1_000_000), bytes_max, Weigh),
                leases: HashMap::new(),
                counts: Cache::new(COUNTS_MAX),
                last_count: 0,
            }),
            running: Stopwatch::start(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn until(&self, life: Duration) -> Duration {
        self.running.elapsed().saturating_add(life)
    }
}

// === impl State ===

impl State {
    fn get(&self, name: &str, now: Duration) -> Option<Bytes> {
        let kept = self.entries.get(name)?;
        if kept.until > now {
            return Some(kept.entry);
        }
        self.entries.remove(name);
        None
    }

    /// Whether the lease is held under the token now.
    fn is_held(&self, name: &str, token: Uuid, now: Duration) -> bool {
        let lease = self.leases.get(name);
        lease.is_some_and(|lease| lease.token == token && lease.until > now)
    }

    fn raise(&mut self, tag: &str) -> u64 {
        self.last_count += 1;
        self.counts.insert(tag.into(), self.last_count);
        self.last_count
    }
}

#[async_trait]
impl Store for Memory {
    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>, Error> {
        Ok(self.state().get(name, self.running.elapsed()))
    }

    async fn get_many(&self, names: &[String]) -> Result<Vec<Option<Bytes>>, Error> {
        let (state, now) = (self.state(), self.running.elapsed());
        Ok(names.iter().map(|name| state.get(name, now)).collect())
    }

    async fn take(
        &self,
        name: &str,
        token: Uuid,
        lease: Duration,
        seen: &[u8],
    ) -> Result<Taken, Error> {
        let now = self.running.elapsed();
        let mut state = self.state();
        if let Some(entry) = state.get(name, now)
            && stamp_of(&entry) != seen
        {
            return Ok(Taken::Newer(entry));
        }
        if let Some(held) = state.leases.get(name)
            && held.until > now
        {
            return Ok(Taken::Busy(held.until - now));
        }
        let until = now.saturating_add(lease);
        // Those whose holders died.
        if state.leases.len() > 1_024 {
            state.leases.retain(|_, lease| lease.until > now);
        }
        state.leases.insert(name.into(), Lease { token, until });
        Ok(Taken::Ours)
    }

    async fn renew(&self, name: &str, token: Uuid, lease: Duration) -> Result<bool, Error> {
        let until = self.until(lease);
        let mut state = self.state();
        if !state.is_held(name, token, self.running.elapsed()) {
            return Ok(false);
        }
        state.leases.insert(name.into(), Lease { token, until });
        Ok(true)
    }

    async fn fill(
        &self,
        name: &str,
        token: Uuid,
        entry: Bytes,
        life: Duration,
    ) -> Result<bool, Error> {
        let until = self.until(life);
        let mut state = self.state();
        if !state.is_held(name, token, self.running.elapsed()) {
            return Ok(false);
        }
        state.leases.remove(name);
        state.entries.insert(name.into(), Kept { entry, until });
        Ok(true)
    }

    async fn give_back(&self, name: &str, token: Uuid) -> Result<(), Error> {
        let mut state = self.state();
        if state.is_held(name, token, self.running.elapsed()) {
            state.leases.remove(name);
        }
        Ok(())
    }

    async fn seize(&self, name: &str, token: Uuid, lease: Duration) -> Result<(), Error> {
        let until = self.until(lease);
        let mut state = self.state();
        state.entries.remove(name);
        state.leases.insert(name.into(), Lease { token, until });
        Ok(())
    }

    async fn set(&self, name: &str, entry: Bytes, life: Duration) -> Result<(), Error> {
        let until = self.until(life);
        let mut state = self.state();
        state.leases.remove(name);
        state.entries.insert(name.into(), Kept { entry, until });
        Ok(())
    }

    async fn remove(
        &self,
        names: &[String],
        tags: &[String],
        _life: Duration,
    ) -> Result<(), Error> {
        let mut state = self.state();
        for name in names {
            state.leases.remove(name.as_str());
            state.entries.remove(name.as_str());
        }
        for tag in tags {
            state.raise(tag);
        }
        Ok(())
    }

    async fn counts(&self, tags: &[String]) -> Result<Vec<Option<u64>>, Error> {
        let state = self.state();
        let counts = tags.iter().map(|tag| state.counts.get(tag.as_str()));
        Ok(counts.collect())
    }

    async fn ensure(&self, tags: &[String], _life: Duration) -> Result<Vec<Ensured>, Error> {
        let mut state = self.state();
        let counts = tags.iter().map(|tag| match state.counts.get(tag.as_str()) {
            Some(count) => count,
            None => state.raise(tag),
        });
        let ensured = counts.map(|count| Ensured {
            count,
            is_told: false,
        });
        Ok(ensured.collect())
    }

    async fn usage(&self) -> Result<Usage, Error> {
        let state = self.state();
        Ok(Usage {
            keys: state.entries.len() as u64,
            bytes: state.entries.weight(),
        })
    }
}
