//! The heartbeat: keeps the lease on everything that is held.
//!
//! It runs on a thread and a runtime of its own, so that a handler that blocks every thread of
//! the process' runtime still keeps its entries.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::Tasks;
use tokio::sync::watch;

use crate::shared::Shared;
use crate::stats;

/// A heartbeat that failed is tried again this soon.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

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
    let mut wait = shared.policy.heartbeat;
    loop {
        tokio::select! {
            // Nothing is ever sent: this ends when the sender is dropped.
            _ = stopped.changed() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = if shared.touch_held().await {
            shared.policy.heartbeat
        } else {
            AGAIN_AFTER.min(shared.policy.heartbeat)
        };
    }
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
                tracing::warn!(stream = %self.base(), "missed a heartbeat: {error}");
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
