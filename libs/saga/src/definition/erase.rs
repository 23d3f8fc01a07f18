//! Takes the types off functions: JSON in, JSON out.

use std::future::{Future, ready};
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::plan::{Args, RunFn, TxFn, TxUndoFn, UndoFn, WhenFn};
use super::transaction::{TxStep, TxUndo};
use super::values::{decode, encode_result};
use crate::{Ctx, StepResult};

/// Reads what a function gets.
pub(crate) type Read<A> = Arc<dyn Fn(&Args) -> StepResult<A> + Send + Sync>;

pub(crate) fn run<A, T, F, Fut>(read: Read<A>, f: F) -> RunFn
where
    A: Send + 'static,
    T: Serialize + 'static,
    F: Fn(Ctx, A) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = StepResult<T>> + Send + 'static,
{
    Arc::new(move |ctx, args| match read(&args) {
        Err(error) => Box::pin(ready(Err(error))),
        Ok(value) => {
            let work = f(ctx, value);
            Box::pin(async move { encode_result(&work.await?) })
        }
    })
}

pub(crate) fn undo<A, T, F, Fut>(read: Read<A>, f: F) -> UndoFn
where
    A: Send + 'static,
    T: DeserializeOwned + Send + 'static,
    F: Fn(Ctx, A, Option<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = StepResult> + Send + 'static,
{
    Arc::new(move |ctx, args, done| {
        match read(&args).and_then(|value| Ok((value, result(done.as_ref())?))) {
            Err(error) => Box::pin(ready(Err(error))),
            Ok((value, done)) => Box::pin(f(ctx, value, done)),
        }
    })
}

pub(crate) fn run_in<A, T, F>(read: Read<A>, f: F) -> TxFn
where
    A: Send + 'static,
    T: Serialize + Send + 'static,
    F: for<'t> TxStep<'t, A, T> + Send + Sync + 'static,
{
    Arc::new(move |tx, ctx, args| match read(&args) {
        Err(error) => Box::pin(ready(Err(error))),
        Ok(value) => {
            let work = f(tx, ctx, value);
            Box::pin(async move { encode_result(&work.await?) })
        }
    })
}

pub(crate) fn undo_in<A, T, F>(read: Read<A>, f: F) -> TxUndoFn
where
    A: Send + 'static,
    T: DeserializeOwned + Send + 'static,
    F: for<'t> TxUndo<'t, A, T> + Send + Sync + 'static,
{
    Arc::new(move |tx, ctx, args, done| {
        match read(&args).and_then(|value| Ok((value, result(done.as_ref())?))) {
            Err(error) => Box::pin(ready(Err(error))),
            Ok((value, done)) => Box::pin(f(tx, ctx, value, done)),
        }
    })
}

pub(crate) fn when<A: 'static>(
    read: Read<A>,
    holds: impl Fn(&A) -> bool + Send + Sync + 'static,
) -> WhenFn {
    Arc::new(move |args| Ok(holds(&read(args)?)))
}

fn result<T: DeserializeOwned>(done: Option<&Bytes>) -> StepResult<Option<T>> {
    done.map(decode).transpose()
}
