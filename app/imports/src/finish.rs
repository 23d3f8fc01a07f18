//! The step `report`, and the undo of `open`: the two ends of an import.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use ratebox_saga::{Ctx, StepError, StepResult};
use ratebox_store::{State, Tx};
use uuid::Uuid;

use crate::Desk;
use crate::cut::cancelled;
use crate::desk::{failed, in_doubt, unknown};

/// Why an import ended before it was cut, where its owner did not ask for it.
const NOT_CUT: &str = "the store refused the requests of this import; none was judged";

impl Desk {
    /// Writes what the import came to. Its owner's wish to end it waits for this transaction, or
    /// came before and is met.
    pub(crate) fn report(
        self: Arc<Self>,
        tx: &mut Tx,
        _: Ctx,
        import: Uuid,
    ) -> BoxFuture<'_, StepResult> {
        async move {
            let held = self.store.hold_import(tx, import).await.map_err(failed)?;
            if held.ok_or_else(unknown)?.cancel_asked {
                return Err(cancelled());
            }
            let outcome = self.store.import_outcome(tx, import).await;
            let outcome = outcome.map_err(failed)?;
            let finished = self.store.finish_import(tx, import, outcome, None).await;
            finished.map_err(failed)?;
            Ok(())
        }
        .boxed()
    }

    /// Counts what was judged before the end was asked for, writes the end, and tells it.
    pub(crate) async fn close(self: Arc<Self>, ctx: Ctx, import: Uuid) -> StepResult {
        self.count(import).await?;
        let cancelled = self.store.count_cancelled_parts(import).await;
        cancelled.map_err(in_doubt)?;
        if self.pulse(import).await?.open > 0 {
            // Judged by a worker that has yet to commit, which `take_back` waited for: soon there.
            return Err(StepError::retryable("requests have yet to reach their end"));
        }
        self.write_end(import).await.map_err(in_doubt)?;
        self.say(&ctx, import).await
    }

    async fn write_end(&self, import: Uuid) -> Result<(), ratebox_store::Error> {
        let mut tx = self.store.begin().await?;
        let Some(held) = self.store.hold_import(&mut tx, import).await? else {
            return Ok(());
        };
        let was_cut = held.body.is_none();
        let (state, error) = match held.cancel_asked || was_cut {
            true => (State::Cancelled, None),
            false => (State::Dead, Some(NOT_CUT)),
        };
        self.store
            .finish_import(&mut tx, import, state, error)
            .await?;
        tx.commit().await?;
        Ok(())
    }
}
