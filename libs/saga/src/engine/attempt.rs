//! One attempt of a step: runs its function within its limits, and knows how it ended.

use std::future::{Future, pending};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;

use super::faults::{Fault, Faults, Point, Work as FaultWork};
use crate::ctx::Cancel;
use crate::strategy::CANCEL_MAX;
use crate::{Ctx, StepError, StepResult};

/// The limits of an attempt.
#[derive(Clone)]
pub(crate) struct Limits {
    pub(crate) timeout: Duration,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) cancel: Cancel,
    pub(crate) faults: Option<Arc<dyn Faults>>,
    /// For an undo: whether it was given a result.
    pub(crate) has_result: bool,
}

/// Runs one attempt. A panic, a timeout, a missing sign of life and a cancellation that was not
/// heard leave the effect unknown.
pub(crate) async fn attempt<T, F>(ctx: &Ctx, limits: &Limits, work: F) -> StepResult<T>
where
    F: Future<Output = StepResult<T>>,
{
    let broken = broken(ctx, limits, work);
    let caught = AssertUnwindSafe(broken).catch_unwind();
    let work = tokio::time::timeout(limits.timeout, caught);
    tokio::select! {
        biased;
        done = work => match done {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(StepError::unknown("it panicked")),
            Err(_) => Err(StepError::unknown(format!("no end within {:?}", limits.timeout))),
        },
        longest = silence(ctx, limits.heartbeat) => {
            Err(StepError::unknown(format!("no sign of life within {longest:?}")))
        }
        () = unheard(&limits.cancel) => Err(StepError::unknown("it was cancelled and did not end")),
    }
}

/// Completes when the attempt has been silent for too long.
async fn silence(ctx: &Ctx, longest: Option<Duration>) -> Duration {
    let Some(longest) = longest else {
        return pending().await;
    };
    while tokio::time::timeout(longest, ctx.next_beat()).await.is_ok() {}
    longest
}

/// Completes when the attempt was cancelled and has had the time to end by itself.
async fn unheard(cancel: &Cancel) {
    cancel.wait().await;
    tokio::time::sleep(CANCEL_MAX).await;
}

/// The function, and what a test does to it.
async fn broken<T, F>(ctx: &Ctx, limits: &Limits, work: F) -> StepResult<T>
where
    F: Future<Output = StepResult<T>>,
{
    let Some(faults) = &limits.faults else {
        return work.await;
    };
    let key = ctx.idempotency_key();
    let at = FaultWork {
        step: ctx.step(),
        item: ctx.item(),
        undoing: ctx.run().undoing,
        key: &key,
        has_result: limits.has_result,
    };
    suffer(faults.at(Point::Attempt(&at))).await?;
    let outcome = work.await;
    suffer(faults.at(Point::Returned(&at, outcome.is_ok()))).await?;
    outcome
}

async fn suffer(fault: Fault) -> StepResult {
    match fault {
        Fault::None => Ok(()),
        Fault::Rejected => Err(StepError::rejected("told to")),
        Fault::Retryable => Err(StepError::retryable("told to")),
        Fault::Unknown => Err(StepError::unknown("told to")),
        // Without the noise that a panic makes.
        Fault::Panic => std::panic::resume_unwind(Box::new("told to")),
        Fault::Hang | Fault::Crash => pending().await,
        Fault::Slow(seconds) => {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(())
        }
    }
}

/// How an attempt's end reaches its saga.
pub(crate) enum Done {
    Step(StepResult<Bytes>),
    Undo(StepResult),
}
