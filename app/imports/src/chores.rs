//! What is to be done about imports that nobody follows any more: those that their saga left are
//! ended, replayed requests are counted after all, old ones are forgotten.

use std::collections::BTreeMap;

use ratebox_saga::{Error as SagaError, SagaId};
use ratebox_store::CountedPart;
use uuid::Uuid;

use crate::follow::count;
use crate::{Import, Result, Starter};

/// Imports of one look.
const BATCH: u32 = 100;
/// Requests whose responses are read at once.
const PARTS_MAX: u32 = 8;

impl Starter {
    /// All chores, one after the other.
    ///
    /// # Errors
    /// When the store or the journal is away; the next round does what was left.
    pub async fn chores(&self) -> Result<()> {
        self.pick_up_left().await?;
        self.recount().await?;
        self.forget().await?;
        Ok(())
    }

    /// Ends imports whose saga has ended without them, or is gone; returns how many there were.
    ///
    /// # Errors
    /// As [`Starter::chores`].
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

    /// Counts requests that were dead letters when they were counted, and have a verdict since
    /// their replay; returns how many there were.
    ///
    /// # Errors
    /// As [`Starter::chores`].
    pub async fn recount(&self) -> Result<usize> {
        let mut total = 0;
        loop {
            let revived = self.store.revived_parts(PARTS_MAX).await?;
            if revived.is_empty() {
                return Ok(total);
            }
            total += revived.len();
            let mut imports = BTreeMap::<Uuid, Vec<CountedPart>>::new();
            for (import, part) in &revived {
                imports.entry(*import).or_default().push(count(part));
            }
            for (import, parts) in imports {
                self.store.recount_parts(import, &parts).await?;
            }
        }
    }

    /// Forgets imports that ended longer ago than they are kept; returns how many there were.
    ///
    /// # Errors
    /// As [`Starter::chores`].
    pub async fn forget(&self) -> Result<u64> {
        let Some(keep) = self.keep else {
            return Ok(0);
        };
        let Ok(before) = self.store.clock().now().checked_sub(keep) else {
            return Ok(0);
        };
        let mut total = 0;
        loop {
            let gone = self.store.forget_imports(before, BATCH).await?;
            total += gone;
            if gone < u64::from(BATCH) {
                return Ok(total);
            }
        }
    }
}
