//! A definition without its types: a graph in flat arrays, ready to be run.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use ratebox_db::Tx;

use super::values::{Output, split};
use crate::{Ctx, OnFailure, Retry, StepError, StepResult};

/// A built definition.
pub(crate) struct Plan {
    pub(crate) name: Arc<str>,
    pub(crate) version: u32,
    pub(crate) hash: Arc<str>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) on_failure: OnFailure,
    pub(crate) on_stuck: OnStuck,
    pub(crate) deadline: Option<Duration>,
    /// Topic of lifecycle events.
    pub(crate) events: Option<Arc<str>>,
    pub(crate) output: Option<MakeOutput>,
}

/// The saga's output from that of a node.
#[derive(Clone, Copy)]
pub(crate) struct MakeOutput {
    pub(crate) node: usize,
    pub(crate) encode: fn(&Output) -> StepResult<Bytes>,
}

/// One step.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) name: Arc<str>,
    /// What it reads, in order; [`super::inputs::INPUT`] is the saga's input.
    pub(crate) data: Vec<usize>,
    /// Whom it waits for, each once.
    pub(crate) preds: Vec<usize>,
    /// Who waits for it, each once.
    pub(crate) succs: Vec<usize>,
    pub(crate) work: Work,
    pub(crate) undo: Option<Undo>,
    pub(crate) when: Option<WhenFn>,
    pub(crate) retry: Retry,
    pub(crate) timeout: Duration,
    pub(crate) undo_retry: Retry,
    pub(crate) undo_timeout: Duration,
    /// Longest time between two signs of life.
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) pivot: bool,
    /// After a pivot: nothing here is undone.
    pub(crate) after_pivot: bool,
    pub(crate) way_on: WayOn,
    pub(crate) excuse: Option<Excuse>,
    pub(crate) record_start: bool,
    /// How many items of a fan-out run at once; `None` for steps that are none.
    pub(crate) width: Option<usize>,
}

/// What a step does.
#[derive(Clone)]
pub(crate) enum Work {
    Run(RunFn),
    InTx(TxFn),
    Sleep(Duration),
    Signal(Signal),
    Child(Child),
}

/// What undoes it.
#[derive(Clone)]
pub(crate) enum Undo {
    Run(UndoFn),
    InTx(TxUndoFn),
    /// The child undoes itself.
    Child,
}

/// A step that waits to be told.
#[derive(Clone)]
pub(crate) struct Signal {
    pub(crate) name: Arc<str>,
    pub(crate) deadline: Option<Duration>,
    /// A value that does not fit rejects the step: a refused approval, or no such type.
    pub(crate) accept: fn(&SignalValue<'_>) -> StepResult<Bytes>,
}

/// What a letter says.
pub(crate) struct SignalValue<'a> {
    pub(crate) payload: &'a Bytes,
    pub(crate) who: &'a str,
    pub(crate) why: &'a str,
}

/// A step that runs another saga.
#[derive(Clone)]
pub(crate) struct Child {
    pub(crate) plan: Arc<Plan>,
    pub(crate) input: InputFn,
}

/// What happens when a step after the pivot has failed for good.
#[derive(Clone)]
pub(crate) enum WayOn {
    /// An operator decides.
    Park,
    /// Something else is done instead.
    Alternative(RunFn),
    /// It is left out, and this is its result.
    Value(Bytes),
}

/// Why a step has no undo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Excuse {
    ReadOnly,
    Because(String),
}

/// What an undo that failed for good means for those that are undone after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStuck {
    /// Steps before it wait for the operator; independent branches are undone. The default.
    #[default]
    Strict,
    /// They are undone all the same.
    BestEffort,
}

pub(crate) type RunFn =
    Arc<dyn Fn(Ctx, Args) -> BoxFuture<'static, StepResult<Bytes>> + Send + Sync>;
pub(crate) type UndoFn =
    Arc<dyn Fn(Ctx, Args, Option<Bytes>) -> BoxFuture<'static, StepResult> + Send + Sync>;
pub(crate) type TxFn =
    Arc<dyn for<'t> Fn(&'t mut Tx, Ctx, Args) -> BoxFuture<'t, StepResult<Bytes>> + Send + Sync>;
pub(crate) type TxUndoFn = Arc<
    dyn for<'t> Fn(&'t mut Tx, Ctx, Args, Option<Bytes>) -> BoxFuture<'t, StepResult> + Send + Sync,
>;
/// Makes a child's input.
pub(crate) type InputFn = Arc<dyn Fn(&Args) -> StepResult<Bytes> + Send + Sync>;
pub(crate) type WhenFn = Arc<dyn Fn(&Args) -> StepResult<bool> + Send + Sync>;

/// What a step's function gets, unread.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) outputs: Arc<[Output]>,
    /// Of a fan-out.
    pub(crate) item: Option<Bytes>,
}

// === impl Plan ===

impl Plan {
    pub(crate) fn find(&self, step: &str) -> Option<usize> {
        self.nodes.iter().position(|node| &*node.name == step)
    }

    /// A node and all that come after it.
    pub(crate) fn downstream(&self, node: usize) -> Vec<usize> {
        let (mut found, mut todo) = (Vec::new(), vec![node]);
        while let Some(at) = todo.pop() {
            if !found.contains(&at) {
                found.push(at);
                todo.extend(self.nodes.get(at).map_or(&[][..], |it| &it.succs));
            }
        }
        found
    }

    /// Whether `node` reads the result of `of` and must have one.
    pub(crate) fn is_read(&self, of: usize) -> bool {
        let is_needed = self.nodes.iter().any(|node| node.data.contains(&of));
        is_needed || self.output.is_some_and(|output| output.node == of)
    }
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ({})", self.name, self.version, self.hash)
    }
}

// === impl Node ===

impl Node {
    /// Whether its effect may have to be taken back at all.
    pub(crate) fn is_undoable(&self) -> bool {
        self.undo.is_some() && !self.pivot && !self.after_pivot
    }

    /// The items of a fan-out; one for all other steps.
    pub(crate) fn items(&self, outputs: &[Output]) -> StepResult<Vec<Option<Bytes>>> {
        if self.width.is_none() {
            return Ok(vec![None]);
        }
        match outputs.first() {
            Some(Output::Value(list)) => Ok(split(list)?.into_iter().map(Some).collect()),
            Some(Output::Items(items)) => Ok(items.iter().cloned().map(Some).collect()),
            Some(Output::Skipped) | None => {
                Err(StepError::rejected("the list of a fan-out was left out"))
            }
        }
    }
}
