//! What this consumer has in its hands: queued, in work or parked. The heartbeat keeps it alive.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
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
pub(crate) struct Held(Mutex<Holds>);

type Holds = HashMap<Key, Hold, BuildHasherDefault<Spread>>;

/// Spreads entry ids over a table. Each entry is looked up four times, and ids are the server's and
/// count upwards, so a multiplication does; were they made to collide, it is a few thousand at most.
#[derive(Default)]
struct Spread(u64);

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

    fn lock(&self) -> std::sync::MutexGuard<'_, Holds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Spread ===

/// Knuth, The Art of Computer Programming, volume 3, section 6.4: multiplicative hashing.
impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        // The table takes the lowest bits, and the highest are the best.
        self.0 ^ (self.0 >> 32)
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher as _;

    use super::*;

    #[test]
    fn ids_that_count_upwards_are_spread() {
        let spread = BuildHasherDefault::<Spread>::default();
        let one_a_millisecond =
            (0..1_000).map(|n| (Lane::Normal, EntryId::new(1_700_000_000_000 + n, 0)));
        let many_in_one = (0..1_000).map(|n| (Lane::High, EntryId::new(1_700_000_000_000, n)));
        let keys: Vec<Key> = one_a_millisecond.chain(many_in_one).collect();
        let places: HashSet<u64> = keys
            .iter()
            .map(|key| spread.hash_one(key) % 2_048)
            .collect();
        // 2,000 that lie anywhere take 1,277 places.
        assert!(places.len() > 1_150, "{}", places.len());
    }
}
