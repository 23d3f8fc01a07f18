//! The heartbeat: keeps the lease on everything that is held.
//!
//! It runs on a thread and a runtime of its own, so that a handler that blocks every thread of
//! the process' runtime still keeps its entries.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Backoff, Causes, Tasks};
use tokio::sync::watch;

use crate::shared::Shared;
use crate::stats;

/// A heartbeat that failed is tried again this soon.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Beats come up to this part of their time early.
const EARLY: u32 = 10;

/// Beats until it is dropped.
pub(crate) struct Heart {
    _alive: watch::Sender<()>,
}

impl Heart {
    pub(crate) fn start(shared: &Arc<Shared>, tasks: &Tasks) -> Self {
        let (alive, stopped) = watch::channel(());
        let shared = Arc::clone(shared);
        tasks.spawn("stream.heartbeat", async move {
            let thread = tokio::task::spawn_blocking(move || beat_on_own_runtime(&shared, stopped));
            if let Err(error) = thread.await
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        });
        Self { _alive: alive }
    }
}

fn beat_on_own_runtime(shared: &Shared, stopped: watch::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system gives one more event queue");
    runtime.block_on(beat(shared, stopped));
}

async fn beat(shared: &Shared, mut stopped: watch::Receiver<()>) {
    let mut wait = spread(shared.policy.heartbeat);
    loop {
        tokio::select! {
            // Nothing is ever sent: this ends when the sender is dropped.
            _ = stopped.changed() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = if shared.touch_held().await {
            spread(shared.policy.heartbeat)
        } else {
            AGAIN_AFTER.min(shared.policy.heartbeat)
        };
    }
}

/// The wait until the next beat: members that were started together do not beat together for ever,
/// and never late, since the third beat must come before the lease is over.
fn spread(every: Duration) -> Duration {
    let early = Backoff {
        first: every / EARLY,
        max: every / EARLY,
    };
    every.saturating_sub(early.jittered(1))
}

// === impl Shared ===

impl Shared {
    /// Touches what is held and forgets what was lost. False when the log could not be reached.
    pub(crate) async fn touch_held(&self) -> bool {
        let held = self.held.all();
        if held.is_empty() {
            return true;
        }
        if let Some(gate) = &self.gate {
            gate.renew(self).await;
        }
        match self.log.touch(&self.sub, &held).await {
            Ok(lost) => {
                if !lost.is_empty() {
                    self.forget_lost(&lost);
                }
                true
            }
            Err(error) => {
                stats::failed(self.base(), "touch");
                tracing::warn!(stream = %self.base(), error = %Causes(&error), "missed a heartbeat");
                false
            }
        }
    }

    fn forget_lost(&self, lost: &[crate::held::Key]) {
        let forgotten = self.held.lose(lost);
        stats::count(stats::LEASES_LOST, self.base(), forgotten);
        if forgotten > 0 {
            tracing::warn!(
                stream = %self.base(),
                "another consumer took {forgotten} entries that were held here"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_come_apart_and_never_late() {
        let every = Duration::from_secs(4);
        let mut waits: Vec<_> = (0..100).map(|_| spread(every)).collect();
        let range = Duration::from_millis(3_600)..=every;
        assert!(waits.iter().all(|it| range.contains(it)), "{waits:?}");
        waits.sort_unstable();
        waits.dedup();
        assert!(waits.len() > 50, "{waits:?}");
    }
}
