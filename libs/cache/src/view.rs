//! What this process knows of changes that others make.
//!
//! One view for all caches over one tier: it hears of changes (from the tier, and from our own
//! calls), tells the caches' own memories, and knows how far it can be trusted: *blind* while
//! changes may be missed, *away* while the tier does not answer or has yet to be told of changes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use tokio::sync::Notify;

use crate::generations::{Generations, Moment, TagCell, TagCells, tag_cell};

/// Counts of tags that are remembered, so that most reads of the tier need no second trip.
const COUNTS_MAX: usize = 100_000;

/// Memories by the name of their cache; several caches may share one.
type Memories = HashMap<Box<str>, Vec<Weak<dyn Forget>>>;

/// The memory of a cache in this process.
pub(crate) trait Forget: Send + Sync {
    /// Forgets one key.
    fn forget(&self, key: &str);

    /// The cells of the tags of what it holds of a key.
    fn cells(&self, key: &str) -> Option<TagCells>;
}

pub(crate) struct View {
    pub(crate) generations: Generations,
    sight: Mutex<Sight>,
    away: AtomicBool,
    /// The tier answers, though it may not be believed yet.
    answering: AtomicBool,
    /// A connection was lost since somebody looked, and with it maybe what the tier was told.
    link_lost: AtomicBool,
    counts: quick_cache::sync::Cache<Box<str>, Count>,
    /// Memories by the name of their cache.
    memories: RwLock<Memories>,
    /// Who waits for a change of a name.
    waiting: Mutex<HashMap<Box<str>, Arc<Notify>>>,
    /// Woken when sight is lost, or may be.
    doubted: Notify,
}

#[derive(Default)]
struct Sight {
    losses: u64,
}

/// The count of a tag, and when it was read.
#[derive(Clone, Copy)]
struct Count {
    count: u64,
    at: Moment,
    /// The tier keeps it at least until then.
    until_ms: i64,
}

/// Waits for a change of one name.
pub(crate) struct Waiting<'a> {
    view: &'a View,
    name: &'a str,
    notify: Arc<Notify>,
}

// === impl View ===

impl View {
    /// Sees everything: nobody else makes changes.
    pub(crate) fn new() -> Self {
        Self {
            generations: Generations::new(),
            sight: Mutex::default(),
            away: AtomicBool::new(false),
            answering: AtomicBool::new(false),
            link_lost: AtomicBool::new(false),
            counts: quick_cache::sync::Cache::new(COUNTS_MAX),
            memories: RwLock::default(),
            waiting: Mutex::default(),
            doubted: Notify::new(),
        }
    }

    /// Adds a cache's memory, which is told of changes while it lives.
    pub(crate) fn add(&self, cache: &str, memory: Weak<dyn Forget>) {
        let mut memories = self
            .memories
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let of_name = memories.entry(cache.into()).or_default();
        of_name.retain(|memory| memory.strong_count() > 0);
        of_name.push(memory);
    }

    /// The entry of a name changed or may change now. Who calls this for a change of its own calls
    /// it before and after: what is loaded in between may be from before.
    pub(crate) fn changed(&self, name: &str) {
        self.generations.key_changed(name);
        if let Some((cache, key)) = name.split_once(':') {
            let memories = self.memories.read().unwrap_or_else(PoisonError::into_inner);
            for memory in memories.get(cache).into_iter().flatten() {
                if let Some(memory) = memory.upgrade() {
                    memory.forget(key);
                }
            }
        }
        self.wake(name);
    }

    /// The cells of a value's own tags, with those of entries in this process' memories: what is made
    /// from them goes with what they go with.
    pub(crate) fn inherit(&self, own: &TagCells, names: &[String]) -> TagCells {
        let mut all: Vec<TagCell> = own.iter().copied().collect();
        let memories = self.memories.read().unwrap_or_else(PoisonError::into_inner);
        for (cache, key) in names.iter().filter_map(|name| name.split_once(':')) {
            for memory in memories.get(cache).into_iter().flatten() {
                let cells = memory.upgrade().and_then(|memory| memory.cells(key));
                for cell in cells.iter().flat_map(TagCells::iter) {
                    if !all.contains(cell) {
                        all.push(*cell);
                    }
                }
            }
        }
        all.into_iter().collect()
    }

    /// Another process took, lost or gave back the right to fill a name. Nothing that is kept
    /// changed, but a load of ours may have lost its right by a change.
    pub(crate) fn lease_changed(&self, name: &str) {
        self.generations.key_changed(name);
        self.wake(name);
    }

    /// Whatever carries the tag changed or may change now.
    pub(crate) fn tag_changed(&self, tag: &str) {
        self.generations.tag_changed(tag);
        self.counts.remove(tag);
    }

    /// Everything changed at once.
    pub(crate) fn all_changed(&self) {
        self.counts.clear();
        let _sight = self.sight.lock().unwrap_or_else(PoisonError::into_inner);
        if self.generations.heard_since(self.generations.now()) {
            self.generations.all_changed();
        }
    }

    /// Changes may be missed from now on.
    pub(crate) fn lost(&self) {
        let mut sight = self.sight.lock().unwrap_or_else(PoisonError::into_inner);
        sight.losses += 1;
        self.generations.blind();
        self.link_lost.store(true, Ordering::SeqCst);
        self.doubted.notify_one();
    }

    /// Whether a connection was lost since this was asked last.
    pub(crate) fn take_loss(&self) -> bool {
        #[cfg(feature = "broken")]
        {
            // What is told once more would hide that either of these is missing.
            let lacks = &self.generations.lacks;
            if lacks.doubt.load(Ordering::Relaxed) || lacks.repairs.load(Ordering::Relaxed) {
                return false;
            }
        }
        self.link_lost.swap(false, Ordering::SeqCst)
    }

    /// The tier gave a sign of life: it can be told of changes.
    pub(crate) fn answers(&self) {
        self.answering.store(true, Ordering::SeqCst);
    }

    /// Whether it can be told of changes, even if it is not believed yet.
    pub(crate) fn is_answering(&self) -> bool {
        self.answering.load(Ordering::SeqCst)
    }

    /// As [`View::lost`], and the tier does not answer or has yet to be told of a change: it is not
    /// believed either.
    pub(crate) fn fall_behind(&self) {
        let mut sight = self.sight.lock().unwrap_or_else(PoisonError::into_inner);
        sight.losses += 1;
        self.generations.blind();
        self.away.store(true, Ordering::SeqCst);
        self.answering.store(false, Ordering::SeqCst);
    }

    /// How often sight was lost.
    pub(crate) fn losses(&self) -> u64 {
        let sight = self.sight.lock().unwrap_or_else(PoisonError::into_inner);
        sight.losses
    }

    /// Changes are heard and the tier is believed again, unless sight was lost another time since
    /// `losses` was read. Both at once: whoever falls behind just then is not overruled.
    pub(crate) fn found(&self, losses: u64) -> bool {
        let sight = self.sight.lock().unwrap_or_else(PoisonError::into_inner);
        if sight.losses != losses {
            return false;
        }
        if self.is_blind() {
            self.generations.all_changed();
        }
        self.away.store(false, Ordering::SeqCst);
        true
    }

    /// Whether changes may be missed now.
    pub(crate) fn is_blind(&self) -> bool {
        !self.generations.heard_since(self.generations.now())
    }

    /// Whether the tier is known not to answer.
    pub(crate) fn is_away(&self) -> bool {
        self.away.load(Ordering::SeqCst)
    }

    /// The tier failed a call: somebody should look.
    pub(crate) fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Completes when somebody should look.
    pub(crate) async fn doubted(&self) {
        self.doubted.notified().await;
    }

    /// The count of a tag, if it is known and nothing was heard of a change since; and until when
    /// the tier keeps it at least.
    pub(crate) fn count(&self, tag: &str) -> Option<(u64, i64)> {
        let known = self.counts.get(tag)?;
        let holds = self.generations.heard_since(known.at)
            && self.generations.tag_holds(tag_cell(tag), known.at);
        holds.then_some((known.count, known.until_ms))
    }

    /// Remembers the count of a tag that was asked for after `at`.
    pub(crate) fn learn(&self, tag: &str, count: u64, at: Moment, until_ms: i64) {
        let known = Count {
            count,
            at,
            until_ms,
        };
        self.counts.insert(tag.into(), known);
    }

    /// Waits for a change of a name from now on.
    pub(crate) fn wait<'a>(&'a self, name: &'a str) -> Waiting<'a> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let notify = match waiting.get(name) {
            Some(notify) => Arc::clone(notify),
            None => {
                let notify = Arc::new(Notify::new());
                waiting.insert(name.into(), Arc::clone(&notify));
                notify
            }
        };
        Waiting {
            view: self,
            name,
            notify,
        }
    }

    /// Something was heard of a name: whoever waits looks again.
    pub(crate) fn wake(&self, name: &str) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(notify) = waiting.get(name) {
            notify.notify_waiters();
            // For the one that is not at its wait yet.
            notify.notify_one();
        }
    }
}

// === impl Waiting ===

impl Waiting<'_> {
    /// Completes at the next change, or at once when there was one since the last call.
    pub(crate) async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self
            .view
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Within the lock, so that of two who leave at once the last one sees that it is.
        self.notify = Arc::default();
        let is_left = |notify: &Arc<Notify>| Arc::strong_count(notify) == 1;
        if waiting.get(self.name).is_some_and(is_left) {
            waiting.remove(self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sight_that_was_lost_again_meanwhile_is_not_found() {
        let view = View::new();
        view.lost();
        let losses = view.losses();
        view.lost();
        assert!(!view.found(losses));
        assert!(view.is_blind());
        assert!(view.found(view.losses()));
        assert!(!view.is_blind());
    }

    #[test]
    fn a_tier_that_fell_behind_while_it_was_looked_at_is_not_believed() {
        let view = View::new();
        let losses = view.losses();
        view.fall_behind();
        assert!(!view.found(losses));
        assert!(view.is_away() && view.is_blind());
        assert!(view.found(view.losses()));
        assert!(!view.is_away() && !view.is_blind());
    }

    #[test]
    fn the_count_of_a_tag_is_known_until_it_changes_or_sight_is_lost() {
        let view = View::new();
        let at = view.generations.now();
        view.learn("t", 7, at, 100);
        assert_eq!(view.count("t"), Some((7, 100)));
        view.tag_changed("t");
        assert_eq!(view.count("t"), None);
        // An answer to what was asked before the change.
        view.learn("t", 7, at, 100);
        assert_eq!(view.count("t"), None);
        view.learn("t", 8, view.generations.now(), 100);
        assert_eq!(view.count("t"), Some((8, 100)));
        view.lost();
        assert_eq!(view.count("t"), None);
        view.found(view.losses());
        assert_eq!(view.count("t"), None);
    }

    #[tokio::test]
    async fn who_waits_for_a_name_is_woken_and_leaves_nothing_behind() {
        let view = View::new();
        let waiting = view.wait("a:b");
        view.changed("a:b");
        waiting.changed().await;
        drop(waiting);
        assert!(view.waiting.lock().unwrap().is_empty());
    }
}
