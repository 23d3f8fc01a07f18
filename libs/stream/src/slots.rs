//! How many batches may be in work. The number can change while they are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Places for batches. One run loop takes them; batches give them back.
#[derive(Debug)]
pub(crate) struct Slots {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    limit: usize,
    taken: usize,
    /// One batch has all of them, however many there are.
    alone: bool,
}

/// What is wanted of the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// One more batch.
    One,
    /// This batch, while no other is in work.
    All,
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
                alone: false,
            }),
            changed: Notify::new(),
        })
    }

    pub(crate) fn limit(&self) -> usize {
        self.lock().limit
    }

    /// Whether every slot is in use.
    pub(crate) fn is_full(&self) -> bool {
        let state = self.lock();
        state.alone || state.taken >= state.limit
    }

    /// Takes effect at once when it grows; when it shrinks, as batches end.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.lock().limit = limit.max(1);
        self.changed.notify_one();
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

    fn try_take(self: &Arc<Self>, want: Want) -> Option<Slot> {
        let mut state = self.lock();
        let free = match want {
            Want::One => !state.alone && state.taken < state.limit,
            Want::All => !state.alone && state.taken == 0,
        };
        if !free {
            return None;
        }
        match want {
            Want::One => state.taken += 1,
            Want::All => state.alone = true,
        }
        let of = Arc::clone(self);
        Some(Slot { of, want })
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
            Want::All => state.alone = false,
        }
        drop(state);
        self.of.changed.notify_one();
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
}
