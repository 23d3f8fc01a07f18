//! Functions that work in a transaction: what `async fn(&mut Tx, Ctx, A) -> StepResult<T>` is.

use std::future::Future;

use ratebox_db::Tx;

use crate::{Ctx, StepResult};

/// A step in a transaction. Every `async fn` of this form is one.
pub trait TxStep<'t, A, T>: Fn(&'t mut Tx, Ctx, A) -> Self::Future {
    /// What it returns when called.
    type Future: Future<Output = StepResult<T>> + Send + 't;
}

impl<'t, F, Fut, A, T> TxStep<'t, A, T> for F
where
    F: Fn(&'t mut Tx, Ctx, A) -> Fut,
    Fut: Future<Output = StepResult<T>> + Send + 't,
{
    type Future = Fut;
}

/// An undo in a transaction. Every `async fn` of this form is one.
pub trait TxUndo<'t, A, T>: Fn(&'t mut Tx, Ctx, A, Option<T>) -> Self::Future {
    /// What it returns when called.
    type Future: Future<Output = StepResult> + Send + 't;
}

impl<'t, F, Fut, A, T> TxUndo<'t, A, T> for F
where
    F: Fn(&'t mut Tx, Ctx, A, Option<T>) -> Fut,
    Fut: Future<Output = StepResult> + Send + 't,
{
    type Future = Fut;
}
