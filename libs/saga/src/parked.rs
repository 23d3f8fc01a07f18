//! Measures how many sagas wait for an operator, also where no engine runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Causes, Shutdown};

use crate::stats;
use crate::{Journal, Result, Store};

/// Publishes the gauge `saga_parked_count` of a journal. Every process that does so tells of the
/// whole journal: take the largest over all of them, not the sum.
pub struct ParkedWatch {
    store: Arc<dyn Store>,
    /// Definitions that were told of, so that those of which none is left go to zero.
    told: BTreeSet<String>,
}

// === impl ParkedWatch ===

impl ParkedWatch {
    /// Over a journal.
    pub fn new(journal: &Journal) -> Self {
        Self {
            store: journal.shared(),
            told: BTreeSet::new(),
        }
    }

    /// Looks every so often, until it is asked to stop.
    pub async fn run(mut self, every: Duration, shutdown: Shutdown) {
        loop {
            if let Some(Err(error)) = shutdown.unless(self.step()).await {
                tracing::warn!(error = %Causes(&error), "could not count parked sagas");
            }
            if !shutdown.sleep(every).await {
                return;
            }
        }
    }

    /// One look.
    ///
    /// # Errors
    /// When the journal is away; the gauge then stays as it was.
    pub async fn step(&mut self) -> Result<()> {
        let counts = self.store.parked().await?;
        let now: BTreeSet<String> = counts.iter().map(|it| it.definition.clone()).collect();
        for gone in self.told.difference(&now) {
            stats::parked_now(gone, 0);
        }
        for count in counts {
            stats::parked_now(&count.definition, count.sagas);
        }
        self.told = now;
        Ok(())
    }
}
