//! How many batches may be in work. The number can change while they are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Places for batches. One run loop takes them; batches give them back.
#[derive(Debug)]
pub(crate) struct Slots {
    state: Mutex<State>,
    changed: Notify,
    /// The same for whoever waits with urgent entries.
    changed_for_urgent: Notify,
}

#[derive(Debug)]
struct State {
    limit: usize,
    taken: usize,
    /// So many of them by urgent batches.
    urgent: usize,
    /// Urgent entries may come: one slot of three or more is kept free for them.
    keeps: bool,
    /// Urgent entries wait: a slot that gets free is theirs.
    urgent_waits: bool,
    /// One batch has all of them, however many there are.
    alone: bool,
}

/// What is wanted of the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// One more batch.
    One,
    /// One more batch of urgent entries that came their own way.
    Urgent,
    /// This batch, while no other is in work.
    All,
}

/// Says that urgent entries wait, until it is dropped.
struct Waiting<'a>(&'a Slots);

// === impl State ===

impl State {
    fn has_room_for(&self, want: Want) -> bool {
        let has_any = !self.alone && self.taken < self.limit;
        match want {
            Want::All => !self.alone && self.taken == 0,
            Want::Urgent => has_any && self.urgent < self.urgent_max(),
            Want::One => has_any && !self.is_kept(),
        }
    }

    /// The next free slot is for urgent entries.
    fn is_kept(&self) -> bool {
        let waits = self.urgent_waits && self.urgent < self.urgent_max();
        let others = self.taken - self.urgent;
        waits || (self.keeps && self.limit > 2 && others + 1 >= self.limit)
    }

    /// One slot is always left to the others, so that they never starve.
    fn urgent_max(&self) -> usize {
        (self.limit - 1).max(1)
    }
}

/// Gives its slots back when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    of: Arc<Slots>,
    want: Want,
}

// === impl Slots ===

impl Slots {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                limit: limit.max(1),
                taken: 0,
                urgent: 0,
                keeps: false,
                urgent_waits: false,
                alone: false,
            }),
            changed: Notify::new(),
            changed_for_urgent: Notify::new(),
        })
    }

    pub(crate) fn limit(&self) -> usize {
        self.lock().limit
    }

    /// Batches in work.
    pub(crate) fn in_work(&self) -> usize {
        let state = self.lock();
        state.taken + usize::from(state.alone)
    }

    /// Whether every slot is in use, or kept for something else than one more batch.
    pub(crate) fn is_full(&self) -> bool {
        !self.lock().has_room_for(Want::One)
    }

    /// Whether a slot is kept for urgent entries, where there are three or more.
    pub(crate) fn keep_one(&self, keeps: bool) {
        let mut state = self.lock();
        let is_less = state.keeps && !keeps;
        state.keeps = keeps;
        drop(state);
        if is_less {
            self.changed.notify_one();
        }
    }

    /// Takes effect at once when it grows; when it shrinks, as batches end.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.lock().limit = limit.max(1);
        self.notify();
    }

    /// Waits until this may begin. Only the run loop waits, so nobody overtakes it.
    pub(crate) async fn take(self: &Arc<Self>, want: Want) -> Slot {
        // A loop that never has to wait must let the batches it spawned run.
        tokio::task::coop::consume_budget().await;
        loop {
            if let Some(slot) = self.try_take(want) {
                return slot;
            }
            // A permit is kept for whoever waits next, so no change in between is missed.
            self.changed.notified().await;
        }
    }

    /// Waits until a batch of urgent entries may begin, before anything else that waits. Only one
    /// may wait so. Dropping it gives the turn up.
    pub(crate) async fn take_urgent(self: &Arc<Self>) -> Slot {
        if let Some(slot) = self.try_take(Want::Urgent) {
            return slot;
        }
        self.lock().urgent_waits = true;
        let waiting = Waiting(self);
        loop {
            if let Some(slot) = self.try_take(Want::Urgent) {
                drop(waiting);
                return slot;
            }
            self.changed_for_urgent.notified().await;
        }
    }

    fn try_take(self: &Arc<Self>, want: Want) -> Option<Slot> {
        let mut state = self.lock();
        if !state.has_room_for(want) {
            return None;
        }
        match want {
            Want::One => state.taken += 1,
            Want::Urgent => {
                state.taken += 1;
                state.urgent += 1;
            }
            Want::All => state.alone = true,
        }
        let of = Arc::clone(self);
        Some(Slot { of, want })
    }

    fn notify(&self) {
        self.changed.notify_one();
        self.changed_for_urgent.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Slot ===

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.of.lock();
        match self.want {
            Want::One => state.taken = state.taken.saturating_sub(1),
            Want::Urgent => {
                state.taken = state.taken.saturating_sub(1);
                state.urgent = state.urgent.saturating_sub(1);
            }
            Want::All => state.alone = false,
        }
        drop(state);
        self.of.notify();
    }
}

// === impl Waiting ===

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().urgent_waits = false;
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn slots_grow_at_once_and_shrink_as_batches_end() {
        let slots = Slots::new(1);
        let take = |want| slots.take(want).now_or_never();
        let first = take(Want::One).unwrap();
        assert!(take(Want::One).is_none() && slots.is_full());
        slots.set_limit(3);
        let second = take(Want::One).unwrap();
        let third = take(Want::One).unwrap();
        slots.set_limit(1);
        drop((first, second));
        assert!(take(Want::One).is_none() && take(Want::All).is_none());
        drop(third);
        let alone = take(Want::All).unwrap();
        assert!(take(Want::One).is_none() && take(Want::All).is_none());
        drop(alone);
        assert!(take(Want::One).is_some());
        slots.set_limit(0);
        assert_eq!(slots.limit(), 1);
    }

    #[test]
    fn urgent_batches_go_before_others_and_leave_them_one_slot() {
        let slots = Slots::new(3);
        slots.keep_one(true);
        let bulk = || slots.take(Want::One).now_or_never();
        let (first, second) = (bulk().unwrap(), bulk().unwrap());
        assert!(bulk().is_none() && slots.is_full(), "one is kept");
        let urgent = slots.take_urgent().now_or_never().unwrap();
        let mut next = Box::pin(slots.take_urgent());
        assert!((&mut next).now_or_never().is_none());
        drop(first);
        assert!(bulk().is_none(), "who is urgent waits for it");
        let more = next.now_or_never().unwrap();
        assert!(slots.take_urgent().now_or_never().is_none());
        drop(second);
        assert!(slots.take_urgent().now_or_never().is_none());
        let last = bulk().expect("urgent batches never have all");
        drop((urgent, more, last));
        slots.keep_one(false);
        let all = [bulk(), bulk(), bulk()];
        assert!(all.iter().all(Option::is_some) && bulk().is_none());
    }

    #[test]
    fn two_slots_are_for_bulk_work_while_nothing_urgent_waits() {
        let slots = Slots::new(2);
        slots.keep_one(true);
        let bulk = || slots.take(Want::One).now_or_never();
        let (first, _second) = (bulk().unwrap(), bulk().unwrap());
        let mut next = Box::pin(slots.take_urgent());
        assert!((&mut next).now_or_never().is_none());
        drop(first);
        assert!(bulk().is_none());
        drop(next);
        assert!(bulk().is_some(), "it gave its turn up");
    }
}
