//! Starts a saga for every import that has none.
//!
//! The saga's key is the import's id, so that two processes that find the same import start one
//! saga, and a start whose answer was lost is found when it is made again. A saga that an operator ended
//! before it had done anything leaves its import open: another saga ends that one as cancelled.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Causes, Shutdown, Stopwatch};
use ratebox_saga::{Engine, Error as SagaError, Saga, SagaId};
use ratebox_store::Store;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{Import, Result};

/// Imports of one look.
const BATCH: u32 = 100;
/// Time between looks for imports whose saga has ended without them.
const LEFT_EVERY: Duration = Duration::from_secs(60);

/// Looks for imports that nobody looks after.
pub struct Starter {
    store: Store,
    engine: Engine,
    saga: Saga<Import>,
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
            wake,
            every,
        }
    }

    /// Works until it is asked to stop.
    pub async fn run(self, shutdown: Shutdown) {
        let mut looked = Stopwatch::start();
        while !shutdown.is_stopping() {
            if looked.elapsed() >= LEFT_EVERY {
                looked = Stopwatch::start();
                let left = shutdown.unless(self.pick_up_left()).await;
                if let Some(Err(error)) = left {
                    tracing::warn!(error = %Causes(&error), "could not look for left imports");
                }
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

    /// Ends imports whose saga has ended without them, or is gone; returns how many there were.
    ///
    /// # Errors
    /// As [`Starter::step`].
    pub async fn pick_up_left(&self) -> Result<usize> {
        let (mut after, mut left) = (Uuid::nil(), 0);
        loop {
            let open = self.store.open_imports(after, BATCH).await?;
            for (import, saga) in &open {
                after = *import;
                if self.has_ended(*saga).await? && self.store.import_is_left(*import, *saga).await?
                {
                    self.end_left(*import, *saga).await?;
                    left += 1;
                }
            }
            if open.len() < BATCH as usize {
                return Ok(left);
            }
        }
    }

    async fn has_ended(&self, saga: Uuid) -> Result<bool> {
        match self.engine.view(SagaId(saga), None).await {
            Ok(view) => Ok(view.head.status.is_end()),
            Err(SagaError::NoSuchSaga { .. }) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Starts a saga that finds the wish to end the import.
    async fn end_left(&self, import: Uuid, old: Uuid) -> Result<()> {
        tracing::warn!(import.id = %import, saga.id = %old, "an import was left by its saga; it is cancelled");
        let start = self.engine.start(&self.saga, &Import { import });
        let handle = start.key(format!("{import} after {old}")).await?;
        let new = handle.id().0;
        Ok(self.store.hand_over_import(import, old, new).await?)
    }
}
