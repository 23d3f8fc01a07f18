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

/// Longest key that is kept in place. With its slot and what the map adds it takes 128 bytes, two
/// lines of the machine's memory.
const IN_PLACE: usize = 46;

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
    /// The end of its fresh life, and the length; zero when it is too long for this place, and then
    /// only a closer look tells whether it is time to load the next.
    soft_ms: i64,
    life_ms: u32,
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
            soft_ms: held.times.soft_ms,
            life_ms: life_ms(&held.times),
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
                soft_ms: front.soft_ms,
                life_ms: front.life_ms,
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
        if early == Early::Never {
            return at_most_ms < until_ms || clock.now_ms() < until_ms;
        }
        if self.life_ms == 0 {
            return false;
        }
        let times = Times {
            created_ms: self.soft_ms.saturating_sub(self.life_ms.into()),
            soft_ms: self.soft_ms,
            hard_ms: self.soft_ms,
        };
        if at_most_ms < until_ms && !may_be_due(&times, self.cost_us, at_most_ms, early) {
            return true;
        }
        let now_ms = clock.now_ms();
        now_ms < until_ms && !is_due(&times, self.cost_us, now_ms, early)
    }
}

fn life_ms(times: &Times) -> u32 {
    let life = times.soft_ms.saturating_sub(times.created_ms);
    u32::try_from(life).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratebox_kit::Timestamp;

    use super::*;

    const DAY_MS: i64 = 24 * 3_600_000;

    fn front(soft_ms: i64, cost_us: u32) -> Front<u8> {
        let times = Times {
            created_ms: 0,
            soft_ms,
            hard_ms: soft_ms,
        };
        let mut held = Held::new(None, View::new().generations.now(), times);
        held.cost_us = cost_us;
        let slot = Slot::new(&Arc::new(held));
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
        let front = front(1_000, 1);
        let is_young = |early| front.is_young(&clock, early);
        clock.advance(Duration::from_millis(799));
        assert!(is_young(Early::Never) && is_young(Early::Share(0.8)));
        clock.advance(Duration::from_millis(1));
        assert!(is_young(Early::Never) && !is_young(Early::Share(0.8)));
        clock.advance(Duration::from_millis(199));
        assert!(is_young(Early::Never));
        clock.advance(Duration::from_millis(1));
        assert!(!is_young(Early::Never));
    }

    #[test]
    fn near_its_end_the_exact_time_counts() {
        let clock = Clock::system();
        for left_ms in [1, 50, 99] {
            let front = front(clock.now_ms() + left_ms, 1);
            while front.is_young(&clock, Early::Never) {}
            let over_ms = clock.now_ms() - front.soft_ms;
            assert!((0..1_000).contains(&over_ms), "{over_ms} ms after its end");
        }
    }

    #[test]
    fn a_life_that_is_too_long_for_its_place_takes_a_closer_look() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let front = front(100 * DAY_MS, 1);
        assert!(front.is_young(&clock, Early::Never));
        assert!(!front.is_young(&clock, Early::Share(0.5)));
    }
}
