//! Forgets claimed bodies that nobody will ask for any more.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Causes, Clock, Shutdown, id};
use uuid::Uuid;

use super::PayloadStore;
use crate::{Admin, Error, Step, Subscription};

/// Bodies that one step looks at.
const LOOK_MAX: usize = 1_000;

/// Between looks when there is nothing to forget.
const NAP: Duration = Duration::from_secs(60);

/// Removes a body once every group is done with every entry that is not younger than it, and it
/// has been kept for a while longer.
///
/// `keep` must exceed the time between encoding a message and appending it (an outbox that waits
/// for its broker), and the time in which a dead letter may be replayed: a letter holds the claim,
/// not the body.
pub struct Collector {
    store: Arc<dyn PayloadStore>,
    admin: Arc<dyn Admin>,
    groups: Vec<Subscription>,
    keep: Duration,
    clock: Clock,
}

// === impl Collector ===

impl Collector {
    /// Looks at every group of every stream that uses the store: what is not named here is not
    /// waited for.
    pub fn new(
        store: Arc<dyn PayloadStore>,
        admin: Arc<dyn Admin>,
        groups: Vec<Subscription>,
        keep: Duration,
        clock: Clock,
    ) -> Self {
        Self {
            store,
            admin,
            groups,
            keep,
            clock,
        }
    }

    /// Forgets what may be forgotten, at most a thousand bodies.
    ///
    /// # Errors
    /// When log or store cannot be reached; nothing is forgotten on a guess.
    pub async fn step(&self) -> Result<Step, Error> {
        let away = |error| Error::Connection(Box::new(error));
        let before_ms = self.before_ms().await?;
        let mut old: Vec<Uuid> = self.store.oldest(LOOK_MAX).await.map_err(away)?;
        old.retain(|key| id::time_ms(*key) < before_ms);
        if old.is_empty() {
            return Ok(Step::Idle);
        }
        self.store.remove(&old).await.map_err(away)?;
        Ok(Step::Did(old.len()))
    }

    /// Steps until the process is asked to stop. One process is enough; several do no harm.
    pub async fn run(&self, shutdown: &Shutdown) {
        while !shutdown.is_stopping() {
            match self.step().await {
                Ok(Step::Did(_)) => {}
                Ok(Step::Idle) => {
                    shutdown.sleep(NAP).await;
                }
                Err(error) => {
                    tracing::warn!(error = %Causes(&error), "claimed bodies could not be collected");
                    shutdown.sleep(NAP).await;
                }
            }
        }
    }

    /// Bodies from before this are nobody's.
    async fn before_ms(&self) -> Result<i64, Error> {
        let mut before_ms = self.clock.now_ms();
        for group in &self.groups {
            for floor in self.admin.floor(group).await? {
                let owed_ms = floor
                    .owed_from
                    .map(|id| i64::try_from(id.ms).unwrap_or(i64::MAX));
                before_ms = before_ms.min(owed_ms.unwrap_or(i64::MAX));
            }
        }
        let keep_ms = i64::try_from(self.keep.as_millis()).unwrap_or(i64::MAX);
        Ok(before_ms.saturating_sub(keep_ms))
    }
}
