//! What can come after steps whose results are known.

use std::cell::RefCell;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::builder::{Draft, of_outputs};
use super::erase::{self, Read};
use super::inputs::Source;
use super::plan::{Child, Excuse, Node, Signal, SignalValue, Undo, WayOn, WhenFn, Work};
use super::step::Step;
use super::transaction::TxStep;
use super::values::{decode, encode, read_items, read_option, read_value};
use crate::{Ctx, Retry, Saga, StepError, StepResult};

/// Results that the next step gets.
pub struct After<'b, A> {
    pub(crate) draft: &'b RefCell<Draft>,
    pub(crate) source: Source<A>,
}

/// Results that the next step gets if a condition holds.
pub struct When<'b, A> {
    after: After<'b, A>,
    when: WhenFn,
}

/// Who approved, and what they said.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Approval {
    /// Who.
    pub who: String,
    /// Their words.
    pub why: String,
}

/// The defaults of a step: 60 s, undo 30 s, three retries each.
const TIMEOUT: Duration = Duration::from_secs(60);
const UNDO_TIMEOUT: Duration = Duration::from_secs(30);

/// As good as none.
const CHILD_TIMEOUT: Duration = Duration::from_secs(10 * 365 * 86_400);

fn node(name: &str, work: Work) -> Node {
    Node {
        name: name.into(),
        data: Vec::new(),
        preds: Vec::new(),
        succs: Vec::new(),
        work,
        undo: None,
        when: None,
        retry: Retry::default(),
        timeout: TIMEOUT,
        undo_retry: Retry::default(),
        undo_timeout: UNDO_TIMEOUT,
        heartbeat: None,
        pivot: false,
        after_pivot: false,
        way_on: WayOn::Park,
        excuse: None,
        record_start: false,
        width: None,
    }
}

impl<'b, A: Send + 'static> After<'b, A> {
    fn add(&self, node: Node, reader: Option<Read<A>>) -> usize {
        let reader = reader.map(|it| Box::new(it) as Box<dyn std::any::Any>);
        let mut draft = self.draft.borrow_mut();
        draft.add(node, &self.source.steps, reader)
    }

    fn read(&self) -> Read<A> {
        of_outputs(Arc::clone(&self.source.read))
    }

    /// A step: an `async fn` that gets the results. It may run more than once, with the same key
    /// ([`Ctx::idempotency_key`]).
    pub fn step<T, F, Fut>(self, name: &str, f: F) -> Step<'b, A, T>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: Fn(Ctx, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = StepResult<T>> + Send + 'static,
    {
        let work = Work::Run(erase::run(self.read(), f));
        let index = self.add(node(name, work), Some(self.read()));
        Step::new(self.draft, index, read_value::<T>)
    }

    /// A step in a transaction that its record joins: its effect in the database of the journal
    /// and the record of it are both kept, or none. It takes effect once.
    pub fn transaction<T, F>(self, name: &str, f: F) -> Step<'b, A, T>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: for<'t> TxStep<'t, A, T> + Send + Sync + 'static,
    {
        let work = Work::InTx(erase::run_in(self.read(), f));
        let index = self.add(node(name, work), Some(self.read()));
        Step::new(self.draft, index, read_value::<T>)
    }

    /// Waits. The time survives the process.
    pub fn sleep(self, name: &str, time: Duration) -> Step<'b, A, ()> {
        let index = self.add(node(name, Work::Sleep(time)), None);
        Step::new(self.draft, index, read_value::<()>)
    }

    /// Waits for a signal of this name; its value is the step's result. A value that is no `T`
    /// rejects the step.
    pub fn signal<T>(self, name: &str) -> Step<'b, A, T>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let signal = Signal {
            name: name.into(),
            deadline: None,
            accept: accept_value::<T>,
        };
        let index = self.add(node(name, Work::Signal(signal)), None);
        Step::new(self.draft, index, read_value::<T>)
    }

    /// Waits until a person approves, at most so long. A refusal, or none in time, rejects the
    /// step.
    pub fn approval(self, name: &str, deadline: Duration) -> Step<'b, A, Approval> {
        let signal = Signal {
            name: name.into(),
            deadline: Some(deadline),
            accept: accept_approval,
        };
        let index = self.add(node(name, Work::Signal(signal)), None);
        Step::new(self.draft, index, read_value::<Approval>)
    }

    /// Runs another saga, with an input made of the results; its output is the step's result. To
    /// undo the step is to have the child undo itself.
    pub fn child<J, O>(
        self,
        name: &str,
        saga: &Saga<J, O>,
        input: impl Fn(A) -> J + Send + Sync + 'static,
    ) -> Step<'b, A, O>
    where
        J: Serialize + 'static,
        O: Serialize + DeserializeOwned + Send + 'static,
    {
        let read = self.read();
        let child = Child {
            plan: saga.plan(),
            input: Arc::new(move |args| encode(&input(read(args)?))),
        };
        let mut node = node(name, Work::Child(child));
        node.undo = Some(Undo::Child);
        // The child has deadlines of its own.
        (node.timeout, node.undo_timeout) = (CHILD_TIMEOUT, CHILD_TIMEOUT);
        let index = self.add(node, None);
        Step::new(self.draft, index, read_value::<O>)
    }

    /// The next step runs only if this holds; it is left out otherwise, and those after it read
    /// `None`.
    pub fn when(self, holds: impl Fn(&A) -> bool + Send + Sync + 'static) -> When<'b, A> {
        let when = erase::when(self.read(), holds);
        When { after: self, when }
    }
}

impl<'b, X> After<'b, Vec<X>>
where
    X: DeserializeOwned + Send + 'static,
{
    /// One step for each item of a list, at most `width` at a time. Every item has its own key,
    /// its own retries and its own record; those after it read all results in the list's order.
    pub fn for_each<T, F, Fut>(self, name: &str, width: usize, f: F) -> Step<'b, X, T, Vec<T>>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: Fn(Ctx, X) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = StepResult<T>> + Send + 'static,
    {
        let read: Read<X> = Arc::new(|args| match &args.item {
            Some(item) => decode(item),
            None => Err(StepError::rejected("a fan-out without an item")),
        });
        let mut node = node(name, Work::Run(erase::run(Arc::clone(&read), f)));
        node.width = Some(width.max(1));
        let mut draft = self.draft.borrow_mut();
        let index = draft.add(node, &self.source.steps, Some(Box::new(read)));
        drop(draft);
        Step::new(self.draft, index, read_items::<T>)
    }
}

impl<'b, A: Send + 'static> When<'b, A> {
    fn optional<T>(
        self,
        add: impl FnOnce(After<'b, A>) -> Step<'b, A, T>,
    ) -> Step<'b, A, T, Option<T>>
    where
        T: DeserializeOwned,
    {
        let step = add(self.after);
        if let Some(node) = step.draft.borrow_mut().nodes.get_mut(step.index) {
            node.when = Some(self.when);
        }
        Step::new(step.draft, step.index, read_option::<T>)
    }

    /// As [`After::step`].
    pub fn step<T, F, Fut>(self, name: &str, f: F) -> Step<'b, A, T, Option<T>>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: Fn(Ctx, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = StepResult<T>> + Send + 'static,
    {
        self.optional(|after| after.step(name, f))
    }

    /// As [`After::transaction`].
    pub fn transaction<T, F>(self, name: &str, f: F) -> Step<'b, A, T, Option<T>>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: for<'t> TxStep<'t, A, T> + Send + Sync + 'static,
    {
        self.optional(|after| after.transaction(name, f))
    }

    /// As [`After::sleep`].
    pub fn sleep(self, name: &str, time: Duration) -> Step<'b, A, (), Option<()>> {
        self.optional(|after| after.sleep(name, time))
    }

    /// As [`After::signal`].
    pub fn signal<T>(self, name: &str) -> Step<'b, A, T, Option<T>>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        self.optional(|after| after.signal(name))
    }

    /// As [`After::approval`].
    pub fn approval(
        self,
        name: &str,
        deadline: Duration,
    ) -> Step<'b, A, Approval, Option<Approval>> {
        self.optional(|after| after.approval(name, deadline))
    }

    /// As [`After::child`].
    pub fn child<J, O>(
        self,
        name: &str,
        saga: &Saga<J, O>,
        input: impl Fn(A) -> J + Send + Sync + 'static,
    ) -> Step<'b, A, O, Option<O>>
    where
        J: Serialize + 'static,
        O: Serialize + DeserializeOwned + Send + 'static,
    {
        self.optional(|after| after.child(name, saga, input))
    }
}

fn accept_value<T: Serialize + DeserializeOwned>(
    value: &SignalValue<'_>,
) -> StepResult<bytes::Bytes> {
    let read: T = decode(value.payload)
        .map_err(|_| StepError::rejected("the signal's value is not what the step reads"))?;
    encode(&read)
}

fn accept_approval(value: &SignalValue<'_>) -> StepResult<bytes::Bytes> {
    let (who, why) = (value.who.to_owned(), value.why.to_owned());
    match decode::<bool>(value.payload) {
        Ok(true) => encode(&Approval { who, why }),
        Ok(false) => Err(StepError::rejected(format!("{who} refused: {why}"))),
        Err(_) => Err(StepError::rejected("an approval says true or false")),
    }
}

/// Whether a node's effect is one that somebody must think about.
pub(crate) fn has_effect(node: &Node) -> bool {
    match &node.work {
        Work::Run(_) | Work::InTx(_) => node.excuse != Some(Excuse::ReadOnly),
        Work::Sleep(_) | Work::Signal(_) | Work::Child(_) => false,
    }
}
