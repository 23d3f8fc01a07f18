//! The handle of a step: what the builder still lets it be told, and what later steps read by it.

use std::cell::RefCell;
use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::builder::Draft;
use super::erase;
use super::inputs::{INPUT, Inputs, StepKey};
use super::plan::{Excuse, Node, Undo, WayOn, Work};
use super::transaction::TxUndo;
use super::values::{ReadOutput, encode};
use crate::{Ctx, Flaw, Retry, StepResult};

/// A step that gets `A` and does `T`; later steps read `R`: `T` itself, `Option<T>` of a step with a
/// condition, `Vec<T>` of a fan-out.
///
/// Only a handle gives access to a result, and using it puts the reader after the step: reading
/// what is not there yet is not expressible.
pub struct Step<'b, A, T, R = T> {
    pub(crate) draft: &'b RefCell<Draft>,
    pub(crate) index: usize,
    pub(crate) read: ReadOutput<R>,
    pub(crate) kind: PhantomData<fn(A) -> T>,
}

impl<A, T, R> Clone for Step<'_, A, T, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A, T, R> Copy for Step<'_, A, T, R> {}

impl<'b, A, T, R> Step<'b, A, T, R> {
    pub(crate) fn new(draft: &'b RefCell<Draft>, index: usize, read: ReadOutput<R>) -> Self {
        Self {
            draft,
            index,
            read,
            kind: PhantomData,
        }
    }

    pub(crate) fn key(&self) -> StepKey {
        StepKey {
            builder: self.draft.borrow().id,
            index: self.index,
        }
    }

    /// Changes the node, unless the handle stands for the saga's input.
    fn change(self, change: impl FnOnce(&mut Node) -> Result<(), &'static str>) -> Self {
        let mut draft = self.draft.borrow_mut();
        let flaw = match draft.nodes.get_mut(self.index) {
            None => Some(("input".to_owned(), "the saga's input is no step")),
            Some(node) => {
                let changed = change(node);
                changed.err().map(|what| (node.name.to_string(), what))
            }
        };
        if let Some((step, what)) = flaw {
            draft.flaws.push(Flaw::Misuse { step, what });
        }
        drop(draft);
        self
    }

    /// Orders this step after others without reading them. The others may be defined later.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "handles are copied, and read better so"
    )]
    pub fn after_only(self, others: impl Inputs) -> Self {
        let keys = others.source().steps;
        let mut draft = self.draft.borrow_mut();
        draft.order(self.index, &keys);
        drop(draft);
        self
    }

    /// How often it is tried again. The default is three times.
    pub fn retry(self, retry: Retry) -> Self {
        self.change(|node| {
            node.retry = retry;
            Ok(())
        })
    }

    /// How long one attempt may take; its effect is unknown after that. The default is 60 s.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.change(|node| {
            node.timeout = timeout;
            Ok(())
        })
    }

    /// How often its undo is tried again before it is parked. The default is three times.
    pub fn undo_retry(self, retry: Retry) -> Self {
        self.change(|node| {
            node.undo_retry = retry;
            Ok(())
        })
    }

    /// How long one attempt of its undo may take. The default is 30 s.
    pub fn undo_timeout(self, timeout: Duration) -> Self {
        self.change(|node| {
            node.undo_timeout = timeout;
            Ok(())
        })
    }

    /// An attempt that gives no sign of life ([`Ctx::heartbeat`]) for this long counts as hung.
    pub fn heartbeat(self, longest: Duration) -> Self {
        self.change(|node| {
            node.heartbeat = Some(longest);
            Ok(())
        })
    }

    /// The point of no return: once it is done nothing is undone any more, and every failure after
    /// it is answered by going on.
    pub fn pivot(self) -> Self {
        self.change(|node| {
            node.pivot = true;
            Ok(())
        })
    }

    /// Its effect needs no undo; the reason stands in the definition.
    pub fn no_undo(self, because: &str) -> Self {
        self.change(|node| {
            node.excuse = Some(Excuse::Because(because.to_owned()));
            Ok(())
        })
    }

    /// It has no effect.
    pub fn read_only(self) -> Self {
        self.change(|node| {
            node.excuse = Some(Excuse::ReadOnly);
            Ok(())
        })
    }

    /// Writes a record when an attempt starts, before it has any effect: for steps of which an
    /// operator must know that they were tried.
    pub fn record_start(self) -> Self {
        self.change(|node| {
            node.record_start = true;
            Ok(())
        })
    }

    /// A signal or approval that has not come after this long rejects the step.
    pub fn deadline(self, wait: Duration) -> Self {
        self.change(|node| match &mut node.work {
            Work::Signal(signal) => {
                signal.deadline = Some(wait);
                Ok(())
            }
            Work::Run(_) | Work::InTx(_) | Work::Sleep(_) | Work::Child(_) => {
                Err("only a signal has a deadline; a step has a timeout")
            }
        })
    }

    fn set_undo(self, undo: Undo) -> Self {
        self.change(|node| match &node.work {
            Work::Run(_) | Work::InTx(_) => {
                node.undo = Some(undo);
                Ok(())
            }
            Work::Sleep(_) | Work::Signal(_) => Err("waiting has no effect to undo"),
            Work::Child(_) => Err("a child undoes itself"),
        })
    }
}

impl<A, T, R> Step<'_, A, T, R>
where
    A: Send + 'static,
    T: Serialize + DeserializeOwned + Send + 'static,
{
    /// What takes its effect back. It gets what the step got, and the step's result, or `None` when
    /// nobody knows whether the step had its effect: then it must be safe when there was none. It
    /// may run more than once, with the same key.
    pub fn undo<F, Fut>(self, undo: F) -> Self
    where
        F: Fn(Ctx, A, Option<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = StepResult> + Send + 'static,
    {
        let read = self.draft.borrow().reader::<A>(self.index);
        match read {
            Some(read) => self.set_undo(Undo::Run(erase::undo(read, undo))),
            None => self.set_undo(Undo::Child),
        }
    }

    /// As [`Step::undo`], in a transaction that the undo's record joins: both are kept, or none.
    pub fn undo_in<F>(self, undo: F) -> Self
    where
        F: for<'t> TxUndo<'t, A, T> + Send + Sync + 'static,
    {
        let read = self.draft.borrow().reader::<A>(self.index);
        match read {
            Some(read) => self.set_undo(Undo::InTx(erase::undo_in(read, undo))),
            None => self.set_undo(Undo::Child),
        }
    }

    /// After the pivot: what is done instead when it has failed for good.
    pub fn or_else<F, Fut>(self, alternative: F) -> Self
    where
        F: Fn(Ctx, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = StepResult<T>> + Send + 'static,
    {
        let read = self.draft.borrow().reader::<A>(self.index);
        self.change(|node| match read {
            Some(read) => {
                node.way_on = WayOn::Alternative(erase::run(read, alternative));
                Ok(())
            }
            None => Err("waiting has no alternative"),
        })
    }

    /// After the pivot: it is left out when it has failed for good, and this is its result.
    pub fn or_value(self, value: &T) -> Self {
        let value = encode(value);
        self.change(|node| {
            node.way_on = WayOn::Value(value.map_err(|_| "its value cannot be written as JSON")?);
            Ok(())
        })
    }
}

/// Whether a handle stands for the saga's input.
pub(crate) fn is_input(key: StepKey) -> bool {
    key.index == INPUT
}
