//! The saga of a bulk import.
//!
//! ```text
//! open ─► submit ─► follow ─► report (pivot) ─► tell
//! ```
//!
//! Until the report is written the import can be cancelled: by its owner, whose wish `submit`,
//! `follow` and `report` meet in the store and answer by a rejection, or by an operator. Undoing
//! `submit` takes back the requests that have no verdict yet; undoing `open` counts the others,
//! writes the end and tells it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use ratebox_saga::{Ctx, Retry, Saga, StepResult};
use ratebox_store::Tx;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Desk, Result};

/// The saga's name.
pub const NAME: &str = "bulk-import";

/// An import may wait for workers for as long as it likes; its owner can cancel it.
const FOLLOW_MAX: Duration = Duration::from_secs(365 * 86_400);
/// Counting thousands of responses takes its time.
const CLOSE_MAX: Duration = Duration::from_secs(600);

/// What the saga is started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// The import, in the store.
    pub import: Uuid,
}

impl Desk {
    /// Declares the saga.
    ///
    /// # Errors
    /// Never; a test builds it.
    pub fn saga(self: &Arc<Self>) -> Result<Saga<Import>> {
        let b = Saga::<Import>::builder(NAME);
        let opened = b
            .step("open", step(self, Desk::open))
            .undo(undo(self, Desk::close))
            .retry(patient())
            .undo_retry(patient())
            .undo_timeout(CLOSE_MAX);
        let submitted = b
            .after(b.input())
            .transaction("submit", in_tx(self, Desk::submit))
            .undo_in(undo_in(self, Desk::take_back))
            .after_only(opened)
            .retry(patient())
            .undo_retry(patient());
        let followed = b
            .step("follow", step(self, Desk::follow))
            .no_undo("it only counts")
            .after_only(submitted)
            .retry(patient())
            .timeout(FOLLOW_MAX);
        let reported = b
            .after(b.input())
            .transaction("report", in_tx(self, Desk::report))
            .pivot()
            .after_only(followed)
            .retry(patient());
        b.step("tell", step(self, Desk::tell))
            .after_only(reported)
            .retry(patient());
        Ok(b.build()?)
    }
}

/// A database that is away comes back.
fn patient() -> Retry {
    Retry::forever().between(Duration::from_millis(100), Duration::from_secs(5))
}

/// The desk's method as a step.
fn step<F, Fut>(
    desk: &Arc<Desk>,
    work: F,
) -> impl Fn(Ctx, Import) -> BoxFuture<'static, StepResult> + Send + Sync + 'static
where
    F: Fn(Arc<Desk>, Ctx, Uuid) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = StepResult> + Send + 'static,
{
    let desk = Arc::clone(desk);
    move |ctx, it| Box::pin(work(Arc::clone(&desk), ctx, it.import))
}

/// The desk's method as an undo.
fn undo<F, Fut>(
    desk: &Arc<Desk>,
    work: F,
) -> impl Fn(Ctx, Import, Option<()>) -> BoxFuture<'static, StepResult> + Send + Sync + 'static
where
    F: Fn(Arc<Desk>, Ctx, Uuid) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = StepResult> + Send + 'static,
{
    let work = step(desk, work);
    move |ctx, it, _| work(ctx, it)
}

/// The desk's method in a transaction.
type InTx = for<'t> fn(Arc<Desk>, &'t mut Tx, Ctx, Uuid) -> BoxFuture<'t, StepResult>;

fn in_tx(
    desk: &Arc<Desk>,
    work: InTx,
) -> impl for<'t> Fn(&'t mut Tx, Ctx, Import) -> BoxFuture<'t, StepResult> + Send + Sync + 'static {
    let desk = Arc::clone(desk);
    move |tx, ctx, it| work(Arc::clone(&desk), tx, ctx, it.import)
}

fn undo_in(
    desk: &Arc<Desk>,
    work: InTx,
) -> impl for<'t> Fn(&'t mut Tx, Ctx, Import, Option<()>) -> BoxFuture<'t, StepResult>
+ Send
+ Sync
+ 'static {
    let work = in_tx(desk, work);
    move |tx, ctx, it, _| work(tx, ctx, it)
}
