//! Locks that stand on the server and that nobody holds: the answer that gave one was lost, or the
//! server was away when one was given back.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Backoff, Shutdown};
use tokio::sync::Semaphore;

use super::script::Server;

/// So many are given back at once. Any more end with their leases: while a server is away, every
/// try at a lock may leave one.
const LEFTOVERS_MAX: usize = 256;

/// Pauses between tries; the longest bounds how long a lock stands after the server is back.
const PAUSE: Backoff = Backoff {
    first: Duration::from_millis(50),
    max: Duration::from_secs(1),
};

/// Gives them back when the server is reached again. Clones share their places.
#[derive(Clone, Debug)]
pub(super) struct Leftovers {
    places: Arc<Semaphore>,
    shutdown: Shutdown,
}

// === impl Leftovers ===

impl Leftovers {
    pub(super) fn new(shutdown: Shutdown) -> Self {
        Self {
            places: Arc::new(Semaphore::new(LEFTOVERS_MAX)),
            shutdown,
        }
    }

    /// Tries until the server answers, the lease is over or the process stops.
    pub(super) async fn give_back(&self, server: &Server, lease: Duration) {
        let Ok(_place) = self.places.try_acquire() else {
            return;
        };
        let tries = async {
            let mut failures = 0;
            while server.give_back().await.is_err() {
                failures += 1;
                tokio::time::sleep(PAUSE.jittered(failures)).await;
            }
        };
        // Unanswered, the lock ends with its lease.
        let _ = self
            .shutdown
            .unless(tokio::time::timeout(lease, tries))
            .await;
    }
}
