//! A cache's own memory: bounded by weight, split into shards, and never holding what is older than
//! a change that was heard.

mod slot;

use std::sync::Arc;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use crate::Error;
use crate::generations::TagCells;
use crate::held::Held;
use crate::policy::Early;
use crate::view::{Forget, View};
pub(crate) use slot::{Front, Glance};
use slot::{Key, Slot};

/// Which values make room when memory is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eviction {
    /// Those that are read rarely; a run of values that are read once does not push out the rest.
    #[default]
    Frequency,
    /// Those that were read the longest time ago.
    Recency,
}

/// How much a cache keeps in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Bytes: keys, encoded values and an overhead of 128 each. Zero = nothing is kept.
    pub bytes_max: u64,
    /// Which values make room.
    pub eviction: Eviction,
    /// After this the shared tier is asked again, whatever was heard of it: the last net.
    pub trust_max: std::time::Duration,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self {
            bytes_max: 64 * 1024 * 1024,
            eviction: Eviction::Frequency,
            trust_max: std::time::Duration::from_secs(600),
        }
    }
}

/// Bytes that a value costs beside its own.
pub(crate) const OVERHEAD: u64 = 128;

/// What an entry is thought to weigh when room for them is made.
const WEIGHT_GUESS: u64 = 512;

type Values<V> = Cache<Key, Slot<V>, Weigh>;

pub(crate) struct Memory<V> {
    values: Option<Values<V>>,
    /// When values are refreshed early, by the policy that the cache was built with.
    early: Early,
}

#[derive(Clone)]
struct Weigh;

impl<V> Weighter<Key, Slot<V>> for Weigh {
    fn weight(&self, key: &Key, slot: &Slot<V>) -> u64 {
        let weight = slot.held.as_ref().map_or(0, |held| held.weight);
        key.len() as u64 + weight + OVERHEAD
    }
}

// === impl Memory ===

impl<V> Memory<V> {
    pub(crate) fn new(limits: &MemoryLimits, early: Early) -> Result<Self, Error> {
        let values = match limits.bytes_max {
            0 => None,
            _ => Some(values(limits)?),
        };
        Ok(Self { values, early })
    }

    /// What a handle with this early refresh answers without a closer look.
    pub(crate) fn glance(&self, early: Early) -> Glance {
        match early {
            Early::Never => Glance::Fresh,
            early if early == self.early => Glance::NotDue,
            Early::Share(_) | Early::Chance(_) => Glance::Nothing,
        }
    }

    /// Whether it keeps anything at all.
    pub(crate) fn keeps(&self) -> bool {
        self.values.is_some()
    }

    /// What a hit looks at, whatever it is worth.
    pub(crate) fn front(&self, key: &[u8]) -> Option<Front<V>> {
        let slot = self.values.as_ref()?.get(key);
        slot.map(|slot| slot.front)
    }

    /// All that is held of a key, whatever it is worth; nothing that is not sure to hold yet. Takes
    /// the lock of a shard for itself: not for the way of every read.
    pub(crate) fn get(&self, key: &str) -> Option<Arc<Held<V>>> {
        let mut held = None;
        self.values.as_ref()?.remove_if(key.as_bytes(), |slot| {
            held = slot.held.as_ref().filter(|_| slot.is_live()).cloned();
            false
        });
        held
    }

    /// Keeps a value, unless something was heard of it since its load began. Until that is known it
    /// is there and not live, so nobody ever reads what does not hold: who hears of a change notes it
    /// first and forgets the key then, with the lock under which this looks. False when something was
    /// heard.
    pub(crate) fn keep(&self, key: &str, name: &str, held: &Arc<Held<V>>, view: &View) -> bool {
        let Some(values) = &self.values else {
            return true;
        };
        let mut holds = true;
        values.insert(Key::new(key.as_bytes()), Slot::new(held, self.early));
        let generations = &view.generations;
        values.remove_if(key.as_bytes(), |slot| {
            if !slot.is_of(held) {
                return false;
            }
            holds = generations.key_holds(name, held.at)
                && generations.tags_hold(&held.tags, held.at)
                && (held.is_stopgap || generations.heard_since(held.at));
            if holds {
                slot.set_live();
            }
            !holds
        });
        holds
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        if let Some(values) = &self.values {
            values.clear();
        }
    }

    /// Values and bytes held.
    pub(crate) fn usage(&self) -> (u64, u64) {
        let usage = |values: &Values<V>| (values.len() as u64, values.weight());
        self.values.as_ref().map_or((0, 0), usage)
    }
}

impl<V: Send + Sync> Forget for Memory<V> {
    fn forget(&self, key: &str) {
        if let Some(values) = &self.values {
            values.remove(key.as_bytes());
        }
    }

    fn cells(&self, key: &str) -> Option<TagCells> {
        Some(self.get(key)?.tags.clone())
    }
}

/// A map for so many bytes.
fn values<V>(limits: &MemoryLimits) -> Result<Values<V>, Error> {
    let items = usize::try_from(limits.bytes_max / WEIGHT_GUESS).unwrap_or(usize::MAX);
    let mut options = OptionsBuilder::new();
    options
        .estimated_items_capacity(items.clamp(16, 10_000_000))
        .weight_capacity(limits.bytes_max);
    if limits.eviction == Eviction::Recency {
        // No room for ghosts, and almost all of it for what was read again.
        options.hot_allocation(0.99).ghost_allocation(0.0);
    }
    let options = options.build().map_err(|_| Error::Settings {
        what: "the cache's memory cannot be made so large".to_owned(),
    })?;
    Ok(Cache::with_options(
        options,
        Weigh,
        DefaultHashBuilder::default(),
        DefaultLifecycle::default(),
    ))
}
