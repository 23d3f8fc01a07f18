//! The way of urgent entries while bulk work fills the reads: a read of its own that waits on the
//! more urgent lanes, and a slot that bulk work leaves free.
//!
//! Without it an urgent entry waits for the read of bulk work that is under way, and then for one
//! of the batches of bulk work that have all slots. It exists only while bulk work is all that
//! there is plenty of. A consumer of which keys, limits or a single slot set the order has none.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Shutdown, Tasks};
use tokio::sync::{oneshot, watch};

use crate::inflow::cut_batch;
use crate::shared::Shared;
use crate::slots::Slot;
use crate::{Entry, Error, Handler, Lane, LaneQuota, Wait, stats};

/// Entries of a lane in one read. As many as this say that the lane has plenty of its own, and
/// then the lanes share reads and slots by their weights again.
const READ_MAX: usize = 64;

/// How long a read waits. Also how long the way goes on after bulk work has ended.
const WAIT: Wait = Wait::ForFresh(Duration::from_millis(200));

/// Why it ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It was not wanted any more, or nothing may begin now.
    Quiet,
    /// A lane has plenty.
    Plenty,
    /// The log does not answer as it should.
    Failed(Error),
}

/// How long it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// As long as nothing else ends it.
    Yes,
    /// Until what was read has begun: the loop may wait in a read of its own meanwhile.
    NotLonger,
    /// What was read is set aside, where the loop finds it.
    No,
}

/// A way that is open.
pub(crate) struct Urgent {
    wanted: watch::Sender<Wanted>,
    ended: oneshot::Receiver<Ended>,
}

/// The same, from inside.
struct Way {
    shared: Arc<Shared>,
    handler: Arc<dyn Handler>,
    tasks: Tasks,
    shutdown: Shutdown,
    wanted: watch::Receiver<Wanted>,
}

// === impl Urgent ===

impl Urgent {
    /// Whether a consumer may have one at all.
    pub(crate) fn suits(shared: &Shared) -> bool {
        shared.alone.is_none()
            && shared.gate.is_none()
            && shared.slots.limit() > 1
            && lanes(shared).next().is_some()
    }

    pub(crate) fn open(shared: &Arc<Shared>, handler: &Arc<dyn Handler>, tasks: &Tasks) -> Self {
        let (wanted, is_wanted) = watch::channel(Wanted::Yes);
        let mut way = Way {
            shared: Arc::clone(shared),
            handler: Arc::clone(handler),
            tasks: tasks.clone(),
            shutdown: tasks.shutdown(),
            wanted: is_wanted,
        };
        let (tell, ended) = oneshot::channel();
        tasks.spawn("stream.urgent", async move {
            // Nobody listens any more when the consumer was dropped.
            let _unheard = tell.send(way.follow().await);
        });
        Self { wanted, ended }
    }

    /// Whether it goes on after its next read. It may be wanted again before it has ended.
    pub(crate) fn want(&self, wanted: bool) {
        self.tell(match wanted {
            true => Wanted::Yes,
            false => Wanted::NotLonger,
        });
    }

    fn tell(&self, wanted: Wanted) {
        self.wanted
            .send_if_modified(|was| std::mem::replace(was, wanted) != wanted);
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<Ended> {
        match self.ended.try_recv() {
            Ok(ended) => Some(ended),
            Err(oneshot::error::TryRecvError::Empty) => None,
            // It panicked; its tasks say so.
            Err(oneshot::error::TryRecvError::Closed) => Some(Ended::Quiet),
        }
    }

    /// Waits for its end, no longer than one read.
    pub(crate) async fn close(self) {
        self.tell(Wanted::No);
        let _how = self.ended.await;
    }
}

/// The lanes before bulk work.
fn lanes(shared: &Shared) -> impl Iterator<Item = Lane> {
    let lanes = shared.sub.lanes.iter().map(|(lane, _)| lane);
    lanes.filter(|lane| *lane != Lane::Low)
}

// === impl Way ===

impl Way {
    async fn follow(&mut self) -> Ended {
        let shared = Arc::clone(&self.shared);
        let max = READ_MAX.min(shared.policy.batch_max);
        let quotas: Vec<_> = lanes(&shared).map(|lane| LaneQuota { lane, max }).collect();
        while !self.must_end() {
            let entries = match shared.log.read(&shared.sub, &quotas, WAIT).await {
                Ok(entries) => entries,
                Err(error) => return Ended::Failed(error),
            };
            let on = |lane| entries.iter().filter(|entry| entry.lane == lane).count();
            let has_plenty = quotas.iter().any(|quota| on(quota.lane) >= quota.max);
            self.begin(entries).await;
            if has_plenty {
                return Ended::Plenty;
            }
        }
        Ended::Quiet
    }

    /// It is not wanted, or nothing may begin now. The consumer's loop knows when again.
    fn must_end(&self) -> bool {
        *self.wanted.borrow() != Wanted::Yes || self.must_leave()
    }

    /// Nothing that was read may begin here.
    fn must_leave(&self) -> bool {
        let is_closed = *self.wanted.borrow() == Wanted::No || self.wanted.has_changed().is_err();
        let shared = &*self.shared;
        let must_wait = shared.is_halted() || shared.breaker.is_tripped();
        is_closed || must_wait || self.shutdown.is_stopping()
    }

    /// Waits for a slot; `None` when what was read is to be left to the loop.
    async fn slot(&mut self) -> Option<Slot> {
        let slot = tokio::select! {
            biased;
            slot = self.shared.slots.take_urgent() => slot,
            // Either way it is to end.
            _closed = self.wanted.wait_for(|wanted| *wanted == Wanted::No) => return None,
        };
        (!self.must_leave()).then_some(slot)
    }

    async fn begin(&mut self, entries: Vec<Entry>) {
        let shared = Arc::clone(&self.shared);
        if entries.is_empty() {
            return;
        }
        shared.urgent_seen.at(shared.clock.steady());
        stats::count(stats::READ, shared.base(), entries.len());
        let mut queue = shared.sift(entries).await;
        while !queue.is_empty() {
            let Some(slot) = self.slot().await else {
                // The loop goes on with them.
                return shared.park(queue.into());
            };
            let max = shared.policy.batch_max;
            let mut batch = cut_batch(&mut queue, &shared.policy, max);
            shared.held.keep_held(&mut batch);
            if batch.is_empty() {
                continue;
            }
            let (shared, handler) = (Arc::clone(&shared), Arc::clone(&self.handler));
            self.tasks.spawn("stream.batch", async move {
                shared.work(&*handler, batch).await;
                drop(slot);
            });
        }
    }
}
