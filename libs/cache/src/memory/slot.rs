//! What lies in memory beside its key: a hit touches this and the value, and nothing else.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ratebox_kit::Clock;

use crate::generations::{Moment, TagCells};
use crate::held::{Held, earliest_due_ms};
use crate::policy::Early;
use crate::view::View;

/// Longest key that is kept in place. With its slot and what the map adds it takes 128 bytes, two
/// lines of the machine's memory.
const IN_PLACE: usize = 54;

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
    /// No time to load the next before this, by the early refresh of the memory's own policy.
    due_ms: i64,
    tags: TagCells,
}

/// What a handle answers from memory without a closer look: the limits that were reckoned when the
/// value was kept are those of one policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Glance {
    /// What is fresh: nothing is refreshed early.
    Fresh,
    /// What is fresh and not due under the policy that the cache was built with.
    NotDue,
    /// Nothing: its early refresh is another one.
    Nothing,
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
    pub(super) fn new(held: &Arc<Held<V>>, early: Early) -> Self {
        let front = Front {
            value: held.value.clone(),
            at: held.at,
            until_ms: AtomicI64::new(i64::MIN),
            due_ms: earliest_due_ms(&held.times, held.cost_us, early),
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
                due_ms: front.due_ms,
                tags: front.tags.clone(),
            },
            held: None,
        }
    }
}

// === impl Front ===

impl<V> Front<V> {
    /// Whether it is the answer, and no time to load the next. Anything else takes a closer look.
    pub(crate) fn is_fresh(&self, view: &View, clock: &Clock, glance: Glance) -> bool {
        let generations = &view.generations;
        self.is_young(clock, glance)
            && generations.tags_hold(&self.tags, self.at)
            && generations.heard_since(self.at)
    }

    /// Whether its end and its refresh are still to come. The exact time is asked for only near
    /// them.
    fn is_young(&self, clock: &Clock, glance: Glance) -> bool {
        let until_ms = self.until_ms.load(Ordering::Relaxed);
        let limit_ms = match glance {
            Glance::Fresh => until_ms,
            Glance::NotDue => until_ms.min(self.due_ms),
            Glance::Nothing => return false,
        };
        clock.at_most_ms() < limit_ms || clock.now_ms() < limit_ms
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratebox_kit::Timestamp;

    use super::*;
    use crate::entry::Times;

    fn front(soft_ms: i64, early: Early) -> Front<u8> {
        let times = Times {
            created_ms: 0,
            soft_ms,
            hard_ms: soft_ms,
        };
        let mut held = Held::new(None, View::new().generations.now(), times);
        held.cost_us = 1;
        let slot = Slot::new(&Arc::new(held), early);
        slot.set_live();
        slot.front
    }

    #[test]
    fn a_hit_looks_at_two_lines_of_memory_and_the_value() {
        // The map adds 16.
        assert_eq!(size_of::<Key>() + size_of::<Slot<u8>>(), 112);
    }

    #[test]
    fn it_is_young_to_the_millisecond() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let front = front(1_000, Early::Share(0.8));
        let is_young = |glance| front.is_young(&clock, glance);
        assert!(!is_young(Glance::Nothing));
        clock.advance(Duration::from_millis(799));
        assert!(is_young(Glance::Fresh) && is_young(Glance::NotDue));
        clock.advance(Duration::from_millis(1));
        assert!(is_young(Glance::Fresh) && !is_young(Glance::NotDue));
        clock.advance(Duration::from_millis(199));
        assert!(is_young(Glance::Fresh));
        clock.advance(Duration::from_millis(1));
        assert!(!is_young(Glance::Fresh));
    }

    #[test]
    fn near_its_end_the_exact_time_counts() {
        let clock = Clock::system();
        for left_ms in [1, 50, 99] {
            let end_ms = clock.now_ms() + left_ms;
            let front = front(end_ms, Early::Never);
            while front.is_young(&clock, Glance::NotDue) {}
            let over_ms = clock.now_ms() - end_ms;
            assert!((0..1_000).contains(&over_ms), "{over_ms} ms after its end");
        }
    }
}
