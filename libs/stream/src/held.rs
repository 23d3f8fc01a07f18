//! What this consumer has in its hands: queued, in work or parked. The heartbeat keeps it alive.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::{Entry, EntryId, Lane};

/// Identifies an entry of a subscription.
pub(crate) type Key = (Lane, EntryId);

pub(crate) fn key(entry: &Entry) -> Key {
    (entry.lane, entry.id)
}

#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<HashSet<Key>>);

// === impl Held ===

impl Held {
    pub(crate) fn add(&self, entries: &[Entry]) {
        self.lock().extend(entries.iter().map(key));
    }

    /// Returns how many of them were held.
    pub(crate) fn remove(&self, keys: impl IntoIterator<Item = Key>) -> usize {
        let mut held = self.lock();
        keys.into_iter().filter(|key| held.remove(key)).count()
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Drops those that are no longer held: another consumer has taken them.
    pub(crate) fn keep_held(&self, entries: &mut Vec<Entry>) {
        let held = self.lock();
        entries.retain(|entry| held.contains(&key(entry)));
    }

    pub(crate) fn all(&self) -> Vec<Key> {
        self.lock().iter().copied().collect()
    }

    /// What is held on one lane, without `missing`.
    pub(crate) fn on(&self, lane: Lane, missing: &HashSet<Key>) -> Vec<EntryId> {
        let held = self.lock();
        let on_lane = held
            .iter()
            .filter(|key| key.0 == lane && !missing.contains(*key));
        on_lane.map(|(_, id)| *id).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
