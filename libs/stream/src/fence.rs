//! The fence around a partition: whether its owner may still cause effects.
//!
//! [`Fence::is_open`] asks nobody: it is open for three quarters of a lease after the last renewal
//! began, on a clock that never stands still, so it closes well before the server lets another
//! member in. [`Fence::check`] asks the server. Neither stops a commit that is already on its way
//! to a database; for that, the epoch goes into the same transaction (see
//! `docs/Bus-Order-And-Limits.md`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::Stopwatch;

use crate::{Entry, Error, Handler, Outcome, Ownership, Subscription};

/// Whether the owner of a partition may still cause effects. Cheap to clone.
#[derive(Clone)]
pub struct Fence {
    shared: Arc<Shared>,
}

struct Shared {
    ownership: Arc<dyn Ownership>,
    sub: Subscription,
    partition: u32,
    epoch: u64,
    watch: Stopwatch,
    /// Milliseconds of the watch until which it is open; 0 = closed for good.
    open_until_ms: AtomicU64,
}

// === impl Fence ===

impl Fence {
    /// A fence for a lease that was taken by a call that began when `watch` did.
    pub(crate) fn new(
        ownership: Arc<dyn Ownership>,
        sub: Subscription,
        partition: u32,
        epoch: u64,
        watch: Stopwatch,
        length: Duration,
    ) -> Self {
        let shared = Shared {
            ownership,
            sub,
            partition,
            epoch,
            watch,
            open_until_ms: AtomicU64::new(safe_ms(length).max(1)),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The number of the partition.
    pub fn partition(&self) -> u32 {
        self.shared.partition
    }

    /// The partition's lanes, the group, and the member that owns it.
    pub(crate) fn subscription(&self) -> &Subscription {
        &self.shared.sub
    }

    /// Where the partition's leases are, and what its owners leave to each other.
    pub(crate) fn ownership(&self) -> &dyn Ownership {
        &*self.shared.ownership
    }

    /// Grows with every change of owner. A store that keeps the highest epoch it saw of a
    /// partition, and refuses lower ones in the transaction of the effect, closes the last gap.
    pub fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// Whether the lease still has time by our own clock. Costs nothing; ask right before a commit.
    pub fn is_open(&self) -> bool {
        self.shared.watch.elapsed_ms() < self.shared.open_until_ms.load(Ordering::SeqCst)
    }

    /// Asks the server whether the partition is still ours under this epoch.
    ///
    /// # Errors
    /// When the server cannot be asked: cause no effect.
    pub async fn check(&self) -> Result<bool, Error> {
        if !self.is_open() {
            return Ok(false);
        }
        let owner = self.shared.ownership.owner(&self.shared.sub).await?;
        let sub = &self.shared.sub;
        let is_ours =
            |owner: crate::Owner| owner.member == sub.consumer && owner.epoch == self.shared.epoch;
        Ok(owner.is_some_and(is_ours))
    }

    /// Where the clock of this fence stands; pass it to [`Fence::renewed`].
    pub(crate) fn moment_ms(&self) -> u64 {
        self.shared.watch.elapsed_ms()
    }

    /// A renewal that began at `began_ms` got through. A closed fence stays closed.
    pub(crate) fn renewed(&self, began_ms: u64, length: Duration) {
        let until = began_ms.saturating_add(safe_ms(length));
        let open = &self.shared.open_until_ms;
        let _ = open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |old| {
            (old > 0).then_some(old.max(until))
        });
    }

    /// No more effects, whatever is renewed.
    pub(crate) fn close(&self) {
        self.shared.open_until_ms.store(0, Ordering::SeqCst);
    }
}

impl std::fmt::Debug for Fence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fence")
            .field("partition", &self.shared.partition)
            .field("epoch", &self.shared.epoch)
            .field("is_open", &self.is_open())
            .finish()
    }
}

/// Three quarters of a lease: the rest is for commits on their way and for clocks that differ.
fn safe_ms(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX) / 4 * 3
}

/// Hands entries back instead of working on them once the fence is closed.
pub(crate) struct Fenced {
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) fence: Fence,
}

#[async_trait]
impl Handler for Fenced {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        if self.fence.is_open() {
            return self.handler.handle(batch).await;
        }
        let release = |entry| Outcome::Release { entry };
        batch.into_iter().map(release).collect()
    }

    async fn is_ready(&self) -> bool {
        self.handler.is_ready().await
    }
}
