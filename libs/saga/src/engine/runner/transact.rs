//! Steps in a transaction: the effect and its record are kept together, or not at all.
//!
//! While such a step runs, its saga writes nothing else: on SQLite the transaction holds the one
//! writer, and would wait for itself.

use std::sync::Arc;

use futures_util::StreamExt as _;
use ratebox_db::{Db, Tx};
use ratebox_kit::Causes;
use tokio::time::Instant;

use super::super::attempt::{Done, Limits, attempt};
use super::{Finished, Runner};
use crate::definition::plan::{Args, TxFn, TxUndoFn, Undo, Work};
use crate::journal::store::{Append, Entry, Written};
use crate::machine::{Phase, UnitKey};
use crate::{Ctx, Error, Result, StepError};

/// What comes of a transaction for its saga.
pub(super) enum Outcome {
    Going,
    Ended,
    /// The saga must be read back.
    Reload,
}

/// A function that works in a transaction.
enum Function {
    Step(TxFn),
    Undo(TxUndoFn, Option<bytes::Bytes>),
}

impl Runner {
    /// Runs a step, or an undo, in a transaction.
    pub(super) async fn transact(&mut self, key: UnitKey) -> Result<Outcome> {
        let Some((begun, ctx, limits)) = self.prepare(key) else {
            return Ok(Outcome::Going);
        };
        let store = Arc::clone(&self.engine.0.store);
        let db = store.database().ok_or(Error::NoTransactions)?;
        let node = self.plan.nodes.get(key.node);
        let function = match node.map(|it| (&it.work, &it.undo)) {
            Some((_, Some(Undo::InTx(undo)))) if begun.undoing => {
                Function::Undo(Arc::clone(undo), self.machine.result(key))
            }
            Some((Work::InTx(step), _)) => Function::Step(Arc::clone(step)),
            _ => return Ok(Outcome::Going),
        };
        let started = Instant::now();
        let args = self.machine.args(key);
        let (tx, done) = {
            let work = run(db, function, &ctx, &limits, args);
            tokio::pin!(work);
            loop {
                tokio::select! {
                    biased;
                    done = &mut work => break done,
                    Some(finished) = self.running.next(), if !self.running.is_empty() => {
                        self.finished.push(finished);
                    }
                }
            }
        };
        let mut finished = Finished {
            key,
            done,
            took: started.elapsed(),
            sends: ctx.take_sends(),
        };
        // Its record would be refused, and nothing of it be kept.
        let tx = match self.refuse(&mut finished, StepError::rejected) {
            true => None,
            false => tx,
        };
        match tx {
            Some(tx) => self.keep(tx, finished).await,
            None => {
                self.finished.push(finished);
                Ok(Outcome::Going)
            }
        }
    }

    /// Writes the record of a success into its transaction, and commits.
    async fn keep(&mut self, tx: Tx, finished: Finished) -> Result<Outcome> {
        let record = self.judge(finished);
        self.machine.apply(&record);
        let append = self.append(vec![record]);
        let (records, change) = (append.records.clone(), append.head.clone());
        match self.commit(tx, append).await {
            Ok(()) => self.kept(&records, change).await,
            Err(Error::Fenced) => return Err(Error::Fenced),
            Err(error) if !error.is_retryable() => {
                return match self.note_refusal(&records, &error) {
                    true => Ok(Outcome::Reload),
                    false => Err(error),
                };
            }
            Err(error) => {
                // Whether it was kept, the journal knows: the saga is read back.
                tracing::warn!(saga.id = %self.id, error = %Causes(&error),
                    "a step's transaction may not have been kept; reading the saga back");
                return Ok(Outcome::Reload);
            }
        }
        Ok(match self.machine.phase() {
            Phase::Ended(_) => Outcome::Ended,
            Phase::Forward | Phase::Stopping | Phase::Undoing => Outcome::Going,
        })
    }

    async fn commit(&mut self, mut tx: Tx, append: Append) -> Result<()> {
        let (store, owner) = (&self.engine.0.store, Some(self.session.owner));
        let entry = Entry::Append(append);
        let in_tx = store.write_in(&mut tx, owner, &entry).await?;
        if in_tx.written != Written::Kept {
            return Err(Error::Fenced);
        }
        let committed = tx.commit().await?;
        if let Some(staged) = in_tx.staged {
            staged.publish(&committed).await;
        }
        Ok(())
    }
}

/// Runs the function in a new transaction. A failure drops the transaction, so nothing of it is
/// left: what would be unknown elsewhere is known here.
async fn run(
    db: &Db,
    function: Function,
    ctx: &Ctx,
    limits: &Limits,
    args: Args,
) -> (Option<Tx>, Done) {
    let is_undo = matches!(function, Function::Undo(..));
    let mut tx = match db.begin().await {
        Ok(tx) => tx,
        Err(error) if is_undo => return (None, Done::Undo(Err(StepError::retryable(error)))),
        Err(error) => return (None, Done::Step(Err(StepError::retryable(error)))),
    };
    match function {
        Function::Step(step) => {
            let work = async { step(&mut tx, ctx.clone(), args).await };
            match attempt(ctx, limits, work).await {
                Ok(result) => (Some(tx), Done::Step(Ok(result))),
                Err(error) => (None, Done::Step(Err(error.rolled_back()))),
            }
        }
        Function::Undo(undo, result) => {
            let work = async { undo(&mut tx, ctx.clone(), args, result).await };
            match attempt(ctx, limits, work).await {
                Ok(()) => (Some(tx), Done::Undo(Ok(()))),
                Err(error) => (None, Done::Undo(Err(error.rolled_back()))),
            }
        }
    }
}
