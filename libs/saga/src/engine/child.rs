//! Sagas that are steps of others.

use super::Engine;
use super::operator::By;
use super::start::Order;
use crate::definition::plan::{Args, Child};
use crate::journal::store::Parent;
use crate::{Ctx, Error, Kind, SagaId, Status, StepError, StepResult};

impl Engine {
    /// Starts the child if it is not there yet, and waits for its end.
    pub(super) async fn run_child(
        &self,
        ctx: &Ctx,
        child: &Child,
        args: Args,
    ) -> StepResult<bytes::Bytes> {
        let id = SagaId::child(ctx.saga(), ctx.step(), ctx.item());
        let order = Order {
            id,
            key: None,
            parent: Some(Parent {
                saga: ctx.saga(),
                step: ctx.step().to_owned(),
            }),
            input: (child.input)(&args)?,
            records: Vec::new(),
        };
        // It may be there since an earlier attempt, here or in another process.
        let there = self.0.store.load(&[id]).await?;
        match there.first() {
            None => drop(self.start_plan(&child.plan, order).await?),
            Some(stored) if stored.head.status.is_end() => {}
            Some(_) => drop(self.take_up(id).await?),
        }
        let ending = self.ending(id, Status::is_end).await?;
        match ending.status {
            Status::Completed => Ok(ending.output.unwrap_or_else(|| "null".into())),
            status => {
                let error = ending.error.unwrap_or_default();
                Err(StepError::rejected(format!(
                    "child {id} ended {status}: {error}"
                )))
            }
        }
    }

    /// Has the child undo itself, and waits for that.
    pub(super) async fn undo_child(&self, ctx: &Ctx) -> StepResult {
        let id = SagaId::child(ctx.saga(), ctx.step(), ctx.item());
        let by = By::new(
            &format!("saga {}", ctx.saga()),
            "its parent is being undone",
        );
        match self.order(id, Kind::Cancelled, "", None, &by).await {
            Ok(()) | Err(Error::NoSuchSaga { .. } | Error::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let is_undone = |it: Status| matches!(it, Status::RolledBack | Status::Failed);
        loop {
            let stored = self.0.store.load(&[id]).await?;
            let Some(stored) = stored.first() else {
                return Ok(());
            };
            if is_undone(stored.head.status) {
                return Ok(());
            }
            let is_final = stored.letters.is_empty() && stored.head.status == Status::Completed;
            if is_final {
                return Err(StepError::rejected(
                    "the child's pivot is done: it cannot be undone",
                ));
            }
            tokio::select! {
                ending = self.ending(id, is_undone) => drop(ending?),
                () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
            }
        }
    }
}
