//! What is to be done about imports that nobody follows any more: those that their saga left are
//! ended, those whose saga is parked are counted, as are replayed requests, and old ones are
//! forgotten.

use std::collections::BTreeMap;

use ratebox_kit::Causes;
use ratebox_saga::{Error as SagaError, SagaId, Status};
use ratebox_store::CountedPart;
use uuid::Uuid;

use crate::follow::count;
use crate::{Error, Import, Result, Starter};

/// Imports of one look.
const BATCH: u32 = 100;
/// Requests whose responses are read at once.
const PARTS_MAX: u32 = 8;

impl Starter {
    /// All chores, one after the other. What fails is logged, and the next round does what was
    /// left: one chore keeps nobody from the others.
    pub async fn chores(&self) {
        noted("end imports that were left", &self.pick_up_left().await);
        noted("count replayed requests", &self.recount().await);
        noted("forget old imports", &self.forget().await);
    }

    /// Ends imports whose saga has ended without them, or is gone; returns how many there were.
    /// One that fails is logged and left to the next round: it keeps nobody from the others.
    ///
    /// # Errors
    /// When the imports cannot be listed.
    pub async fn pick_up_left(&self) -> Result<usize> {
        let (mut after, mut left) = (Uuid::nil(), 0);
        loop {
            let open = self.store.open_imports(after, BATCH).await?;
            for (import, saga) in &open {
                after = *import;
                match self.look_after(*import, *saga).await {
                    Ok(was_left) => left += usize::from(was_left),
                    Err(error) => failed(*import, &error),
                }
            }
            if open.len() < BATCH as usize {
                return Ok(left);
            }
        }
    }

    /// Sees to one open import; true when its saga had left it.
    async fn look_after(&self, import: Uuid, saga: Uuid) -> Result<bool> {
        let status = self.status_of(saga).await?;
        if status == Some(Status::Parked) {
            self.count_meanwhile(import).await?;
        }
        let is_over = status.is_none_or(Status::is_end);
        if !is_over || !self.store.import_is_left(import, saga).await? {
            return Ok(false);
        }
        self.end_left(import, saga).await?;
        Ok(true)
    }

    /// Where a saga stands; `None` when it is gone. It may be of another release: its head is read
    /// without its definition, which this process need not have.
    async fn status_of(&self, saga: Uuid) -> Result<Option<Status>> {
        match self.engine.history(SagaId(saga)).await {
            Ok(history) => Ok(Some(history.head.status)),
            Err(SagaError::NoSuchSaga { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Counts for a saga that waits for an operator, so that lists and figures tell how far its
    /// import is. Should the saga go on at this moment, each request is counted once all the same.
    async fn count_meanwhile(&self, import: Uuid) -> Result<()> {
        loop {
            let finished = self.store.finished_parts(import, PARTS_MAX).await?;
            if finished.is_empty() {
                return Ok(());
            }
            let counted: Vec<CountedPart> = finished.iter().map(count).collect();
            self.store.count_parts(import, &counted).await?;
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
    /// their replay; returns how many there were. An import that fails is logged and left to the
    /// next round: it keeps nobody from the others.
    ///
    /// # Errors
    /// When the requests cannot be listed.
    pub async fn recount(&self) -> Result<usize> {
        let (mut after, mut total) = ((Uuid::nil(), 0), 0);
        loop {
            let revived = self.store.revived_parts(after, PARTS_MAX).await?;
            let mut imports = BTreeMap::<Uuid, Vec<CountedPart>>::new();
            for (import, part) in &revived {
                after = (*import, part.number);
                imports.entry(*import).or_default().push(count(part));
            }
            for (import, parts) in imports {
                match self.store.recount_parts(import, &parts).await {
                    Ok(()) => total += parts.len(),
                    Err(error) => failed(import, &Error::from(error)),
                }
            }
            if revived.len() < PARTS_MAX as usize {
                return Ok(total);
            }
        }
    }

    /// Forgets imports that ended longer ago than they are kept; returns how many there were.
    ///
    /// # Errors
    /// When the store is away.
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

fn noted<T>(what: &str, done: &Result<T>) {
    if let Err(error) = done {
        tracing::warn!(error = %Causes(error), "could not {what}");
    }
}

fn failed(import: Uuid, error: &Error) {
    tracing::warn!(
        import.id = %import,
        error = %Causes(error),
        "could not look after an import; the others are looked after"
    );
}
