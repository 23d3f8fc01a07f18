//! What this consumer has in its hands: queued, in work or parked. The heartbeat keeps it alive.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::{Entry, EntryId, Lane, Settlement};

/// Identifies an entry of a subscription.
pub(crate) type Key = (Lane, EntryId);

pub(crate) fn key(entry: &Entry) -> Key {
    (entry.lane, entry.id)
}

/// How firmly an entry is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// It waits for work or is in work.
    Firm,
    /// It is being settled: the log may have let it go already, or not yet.
    Leaving,
}

#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<HashMap<Key, Hold>>);

// === impl Held ===

impl Held {
    pub(crate) fn add(&self, entries: &[Entry]) {
        let firm = entries.iter().map(|entry| (key(entry), Hold::Firm));
        self.lock().extend(firm);
    }

    /// From now on the log may have let go of these. They are held, and kept alive, until they
    /// are removed: a settlement that cannot get through is tried for a while.
    pub(crate) fn leave(&self, settlements: &[Settlement<'_>]) {
        let mut held = self.lock();
        for settlement in settlements {
            if let Some(hold) = held.get_mut(&settled(settlement)) {
                *hold = Hold::Leaving;
            }
        }
    }

    /// Forgets what the log says is another's or nobody's. Returns how many of them are a loss:
    /// what is being settled, or was settled since the log was asked, is none.
    pub(crate) fn lose(&self, keys: &[Key]) -> usize {
        let mut held = self.lock();
        let mut lost = 0;
        for key in keys {
            if held.get(key) == Some(&Hold::Firm) {
                held.remove(key);
                lost += 1;
            }
        }
        lost
    }

    pub(crate) fn remove(&self, keys: impl IntoIterator<Item = Key>) {
        let mut held = self.lock();
        for key in keys {
            held.remove(&key);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    pub(crate) fn has(&self, entry: &Entry) -> bool {
        self.lock().contains_key(&key(entry))
    }

    /// Drops those that are no longer held: another consumer has taken them.
    pub(crate) fn keep_held(&self, entries: &mut Vec<Entry>) {
        let held = self.lock();
        entries.retain(|entry| held.contains_key(&key(entry)));
    }

    pub(crate) fn all(&self) -> Vec<Key> {
        self.lock().keys().copied().collect()
    }

    /// What is held on one lane.
    pub(crate) fn on(&self, lane: Lane) -> Vec<EntryId> {
        let held = self.lock();
        let on_lane = held.keys().filter(|key| key.0 == lane);
        on_lane.map(|(_, id)| *id).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Hold>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn settled(settlement: &Settlement<'_>) -> Key {
    match settlement {
        Settlement::Ack { lane, id } | Settlement::Release { lane, id, .. } => (*lane, *id),
        Settlement::Delay { entry, .. }
        | Settlement::Snooze { entry, .. }
        | Settlement::Bury { entry, .. } => key(entry),
    }
}
