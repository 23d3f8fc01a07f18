//! What lies in memory beside its key: a hit touches this and the value, and nothing else.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ratebox_kit::Clock;

use crate::entry::Times;
use crate::generations::{Moment, TagCell, TagCells};
use crate::held::{Held, is_due, may_be_due};
use crate::policy::Early;
use crate::view::View;

/// Longest key that is kept in place.
const IN_PLACE: usize = 38;

/// A key's bytes. Short ones lie in place: comparing them fetches no other line.
#[derive(Debug)]
pub(super) enum Key {
    Short(u8, [u8; IN_PLACE]),
    Long(Box<[u8]>),
}

/// A value and the part of it that a hit looks at.
///
/// Its clone is what a reader gets, and leaves the rest behind: counting one more reader of that
/// would fetch a line for each hit.
pub(super) struct Slot<V> {
    pub(super) front: Front<V>,
    pub(super) held: Option<Arc<Held<V>>>,
}

/// What a hit looks at.
pub(crate) struct Front<V> {
    /// The answer.
    pub(crate) value: Option<Arc<V>>,
    at: Moment,
    /// Fresh and trusted until then; the lowest time of all while it is not sure that nothing
    /// changed between its load and its place in memory.
    until_ms: AtomicI64,
    times: Times,
    cost_us: u32,
    tags: TagCells,
}

// === impl Key ===

impl Key {
    pub(super) fn new(key: &[u8]) -> Self {
        let mut bytes = [0; IN_PLACE];
        match (bytes.get_mut(..key.len()), u8::try_from(key.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(key);
                Self::Short(length, bytes)
            }
            _ => Self::Long(key.into()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Short(length, bytes) => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes().len()
    }
}

impl std::borrow::Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.bytes()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes().hash(state);
    }
}

// === impl Slot ===

impl<V> Slot<V> {
    pub(super) fn new(held: &Arc<Held<V>>) -> Self {
        let front = Front {
            value: held.value.clone(),
            at: held.at,
            until_ms: AtomicI64::new(i64::MIN),
            times: held.times,
            cost_us: held.cost_us,
            tags: held.tags.clone(),
        };
        Self {
            front,
            held: Some(Arc::clone(held)),
        }
    }

    pub(super) fn is_of(&self, held: &Arc<Held<V>>) -> bool {
        let ours = self.held.as_ref();
        ours.is_some_and(|ours| Arc::ptr_eq(ours, held))
    }

    /// From now on it may be answered.
    pub(super) fn set_live(&self) {
        let Some(held) = &self.held else { return };
        // A stopgap is worth something only while the tier is away: that takes a closer look.
        let until_ms = match held.is_stopgap {
            true => LOOK_CLOSELY,
            false => held.times.soft_ms.min(held.trusted_ms),
        };
        self.front.until_ms.store(until_ms, Ordering::SeqCst);
    }

    /// Whether it may be answered at all.
    pub(super) fn is_live(&self) -> bool {
        self.front.until_ms.load(Ordering::SeqCst) != i64::MIN
    }
}

/// Before every time: no hit without a closer look.
const LOOK_CLOSELY: i64 = i64::MIN + 1;

impl<V> Clone for Slot<V> {
    fn clone(&self) -> Self {
        let front = &self.front;
        Self {
            front: Front {
                value: front.value.clone(),
                at: front.at,
                until_ms: AtomicI64::new(front.until_ms.load(Ordering::SeqCst)),
                times: front.times,
                cost_us: front.cost_us,
                tags: front.tags.clone(),
            },
            held: None,
        }
    }
}

// === impl Front ===

impl<V> Front<V> {
    /// Whether it is the answer, and no time to load the next. Anything else takes a closer look.
    pub(crate) fn is_fresh(&self, view: &View, clock: &Clock, early: Early) -> bool {
        let generations = &view.generations;
        let unchanged = |cell: &TagCell| generations.tag_holds(*cell, self.at);
        self.is_young(clock, early)
            && self.tags.iter().all(unchanged)
            && generations.heard_since(self.at)
    }

    /// Whether its end and its refresh are still to come. The exact time is asked for only near
    /// them.
    fn is_young(&self, clock: &Clock, early: Early) -> bool {
        let until_ms = self.until_ms.load(Ordering::Relaxed);
        let at_most_ms = clock.at_most_ms();
        if at_most_ms < until_ms && !may_be_due(&self.times, self.cost_us, at_most_ms, early) {
            return true;
        }
        let now_ms = clock.now_ms();
        now_ms < until_ms && !is_due(&self.times, self.cost_us, now_ms, early)
    }
}
