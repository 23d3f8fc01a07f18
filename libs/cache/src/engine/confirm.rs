//! Values that this process filled stay in its memory.
//!
//! Redis takes a script for another client and tells us of our own fill; what it tells is merged with
//! changes by others, so memory would have to forget the value. A moment later the entry's stamp is
//! asked for, for many of them in one trip: if it is still that of our fill, the value is kept, as
//! if it had been read from the tier. No reader waits for that.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Engine;
use super::load::Rest;
use crate::held::Held;

/// How long fills are gathered. What the server tells of them is heard by then.
const GATHER: Duration = Duration::from_millis(5);

/// Fills that wait; what is more is read from the tier by its next reader.
const FILLED_MAX: usize = 1_024;

/// Fills that wait to be confirmed.
pub(crate) struct Filled<V>(Mutex<Vec<Fill<V>>>);

struct Fill<V> {
    key: Arc<str>,
    name: Arc<str>,
    held: Arc<Held<V>>,
}

impl<V> Default for Filled<V> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

// === impl Engine ===

impl<V: Send + Sync + 'static> Engine<V> {
    /// Has a value confirmed that was just filled; false when that is not needed, or too many wait.
    pub(super) fn confirm_later(self: &Arc<Self>, rest: &Rest<V>, held: &Arc<Held<V>>) -> bool {
        if !(self.tier.is_far() && self.memory.keeps()) {
            return false;
        }
        let fill = Fill {
            key: Arc::clone(&rest.key),
            name: Arc::clone(&rest.name),
            held: Arc::clone(held),
        };
        let mut filled = self.filled.0.lock().unwrap_or_else(PoisonError::into_inner);
        if filled.len() >= FILLED_MAX {
            return false;
        }
        filled.push(fill);
        let is_first = filled.len() == 1;
        drop(filled);
        if is_first {
            let (engine, shutdown) = (Arc::clone(self), self.tasks.shutdown());
            self.tasks.spawn("cache confirm", async move {
                if shutdown.sleep(GATHER).await {
                    engine.confirm().await;
                }
            });
        }
        true
    }

    /// Whether nothing was heard of a value's tags since its load began. The stamp says nothing of
    /// them.
    fn tags_held(&self, held: &Held<V>) -> bool {
        let generations = &self.tier.view.generations;
        generations.heard_since(held.at) && generations.tags_hold(&held.tags, held.at)
    }

    async fn confirm(&self) {
        let filled = {
            let mut filled = self.filled.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *filled)
        };
        let Ok(Some(store)) = self.tier.live() else {
            return;
        };
        let at = self.tier.view.generations.now();
        let names: Vec<&str> = filled.iter().map(|fill| &*fill.name).collect();
        let Ok(stamps) = store.stamps(&names).await else {
            self.tier_failed();
            return;
        };
        for (fill, stamp) in filled.iter().zip(stamps) {
            if stamp == fill.held.stamp.as_bytes() && self.tags_held(&fill.held) {
                let held = Arc::new(fill.held.again(at));
                self.memory
                    .keep(&fill.key, &fill.name, &held, &self.tier.view);
            }
        }
    }
}
