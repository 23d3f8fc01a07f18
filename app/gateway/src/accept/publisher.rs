//! Publishes what was committed, behind the back of whoever waits for a commit.
//!
//! Bounded: when the bus is slower than the commits, events are left to the relay, which finds
//! their rows.

use ratebox_kit::Tasks;
use ratebox_outbox::{Outbox, Staged};
use ratebox_store::Committed;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::stats;

/// Publications under way at once.
const IN_FLIGHT_MAX: usize = 4;

/// The handle. The task ends when the last handle is gone and everything is published.
#[derive(Debug)]
pub(crate) struct Publisher {
    queue: mpsc::Sender<(Staged, Committed)>,
}

impl Publisher {
    pub(crate) fn start(outbox: Outbox, queue_max: usize, tasks: &Tasks) -> Self {
        let (queue, committed) = mpsc::channel(queue_max.max(1));
        tasks.spawn("gateway-publisher", run(outbox, committed));
        Self { queue }
    }

    /// Publishes soon, or leaves it to the relay.
    pub(super) fn publish(&self, staged: Staged, proof: Committed) {
        if self.queue.try_send((staged, proof)).is_err() {
            stats::publication_left();
        }
    }
}

async fn run(outbox: Outbox, mut committed: mpsc::Receiver<(Staged, Committed)>) {
    let mut under_way = JoinSet::new();
    while let Some((staged, proof)) = committed.recv().await {
        while under_way.len() >= IN_FLIGHT_MAX {
            under_way.join_next().await;
        }
        let outbox = outbox.clone();
        under_way.spawn(async move { outbox.publish(staged, &proof).await });
    }
    while under_way.join_next().await.is_some() {}
}
