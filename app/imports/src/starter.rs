//! Starts a saga for every import that has none.
//!
//! The saga's key is the import's id, so that two processes that find the same import start one
//! saga, and a start whose answer was lost is found when it is made again. A saga that an operator ended
//! before it had done anything leaves its import open: another saga ends that one as cancelled.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Causes, Shutdown, Stopwatch};
use ratebox_saga::{Engine, Saga};
use ratebox_store::Store;
use tokio::sync::Notify;

use crate::{Import, Result};

/// Imports of one look.
const BATCH: u32 = 100;
/// Time between rounds of chores.
const CHORES_EVERY: Duration = Duration::from_secs(60);

/// Looks for imports that nobody looks after.
pub struct Starter {
    pub(crate) store: Store,
    pub(crate) engine: Engine,
    pub(crate) saga: Saga<Import>,
    pub(crate) keep: Option<Duration>,
    wake: Arc<Notify>,
    every: Duration,
}

impl Starter {
    /// Looks whenever it is woken, and every `every`.
    pub fn new(
        store: Store,
        engine: Engine,
        saga: Saga<Import>,
        wake: Arc<Notify>,
        every: Duration,
    ) -> Self {
        Self {
            store,
            engine,
            saga,
            keep: None,
            wake,
            every,
        }
    }

    /// Forgets imports that ended longer ago than this; `None` keeps them for ever, as does a
    /// starter that is told nothing.
    #[must_use]
    pub fn keeping(self, keep: Option<Duration>) -> Self {
        Self { keep, ..self }
    }

    /// Works until it is asked to stop.
    pub async fn run(self, shutdown: Shutdown) {
        let mut looked = Stopwatch::start();
        while !shutdown.is_stopping() {
            if looked.elapsed() >= CHORES_EVERY {
                looked = Stopwatch::start();
                shutdown.unless(self.chores()).await;
            }
            let found = shutdown.unless(self.step()).await;
            match found {
                None => return,
                Some(Ok(found)) if found > 0 => continue,
                Some(Ok(_)) => {}
                Some(Err(error)) => tracing::warn!(
                    error = %Causes(&error),
                    "could not look for new imports"
                ),
            }
            tokio::select! {
                () = self.wake.notified() => {}
                passed = shutdown.sleep(self.every) => if !passed { return },
            }
        }
    }

    /// One look; returns how many imports were found.
    ///
    /// # Errors
    /// When the store or the journal is away; the next look finds the same imports.
    pub async fn step(&self) -> Result<usize> {
        let imports = self.store.unattended_imports(BATCH).await?;
        for import in &imports {
            let input = Import { import: *import };
            let start = self.engine.start(&self.saga, &input);
            let handle = start.key(import.to_string()).await?;
            self.store.attend_import(*import, handle.id().0).await?;
        }
        Ok(imports.len())
    }
}
