//! Declares a saga: steps, what they read, and what is to happen when they fail.

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::after::After;
use super::check;
use super::erase::Read;
use super::hash::hash;
use super::inputs::{INPUT, Inputs, StepKey};
use super::plan::{MakeOutput, Node, OnStuck, Plan};
use super::step::{Step, is_input};
use super::values::{as_json, read_value};
use crate::{Ctx, Error, Flaw, OnFailure, Result, Saga, StepResult};

/// Declares a saga whose input is `I`. Steps are declared on it, and `build` checks the whole.
pub struct Builder<I> {
    name: String,
    version: u32,
    on_failure: OnFailure,
    on_stuck: OnStuck,
    deadline: Option<Duration>,
    events: Option<Arc<str>>,
    draft: RefCell<Draft>,
    input: PhantomData<fn(I)>,
}

/// What has been declared so far.
pub(crate) struct Draft {
    pub(crate) id: usize,
    pub(crate) nodes: Vec<Node>,
    /// How each node reads what its functions get, with the type still on it; none for a node
    /// that has no functions.
    readers: Vec<Option<Box<dyn Any>>>,
    /// A node, and one that it comes after. Later nodes are possible.
    edges: Vec<(usize, usize)>,
    pub(crate) flaws: Vec<Flaw>,
}

/// Tells builders apart, so that a handle of another one is noticed.
static BUILDERS: AtomicUsize = AtomicUsize::new(0);

// === impl Draft ===

impl Draft {
    fn new() -> Self {
        Self {
            id: BUILDERS.fetch_add(1, Ordering::Relaxed),
            nodes: Vec::new(),
            readers: Vec::new(),
            edges: Vec::new(),
            flaws: Vec::new(),
        }
    }

    /// Adds a node that reads these steps.
    pub(crate) fn add(
        &mut self,
        mut node: Node,
        steps: &[StepKey],
        reader: Option<Box<dyn Any>>,
    ) -> usize {
        let index = self.nodes.len();
        node.data = steps.iter().map(|key| key.index).collect();
        self.nodes.push(node);
        self.readers.push(reader);
        self.order(index, steps);
        index
    }

    /// Puts a node after others.
    pub(crate) fn order(&mut self, node: usize, after: &[StepKey]) {
        for key in after {
            if key.builder != self.id {
                let step = self.nodes.get(node).map(|it| it.name.to_string());
                let step = step.unwrap_or_default();
                self.flaws.push(Flaw::Foreign { step });
            } else if !is_input(*key) {
                self.edges.push((node, key.index));
            }
        }
    }

    /// How a node reads what its functions get.
    pub(crate) fn reader<A: 'static>(&self, node: usize) -> Option<Read<A>> {
        let reader = self.readers.get(node)?.as_ref()?;
        reader.downcast_ref::<Read<A>>().cloned()
    }

    /// The nodes with their edges.
    fn graph(&self) -> Vec<Node> {
        let mut nodes = self.nodes.clone();
        for (node, after) in &self.edges {
            let known = nodes.get(*node).is_some_and(|it| it.preds.contains(after));
            if known {
                continue;
            }
            if let Some(it) = nodes.get_mut(*node) {
                it.preds.push(*after);
            }
            if let Some(it) = nodes.get_mut(*after) {
                it.succs.push(*node);
            }
        }
        nodes
    }
}

// === impl Builder ===

impl<I> Builder<I>
where
    I: Serialize + DeserializeOwned + Send + 'static,
{
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: 1,
            on_failure: OnFailure::default(),
            on_stuck: OnStuck::default(),
            deadline: None,
            events: None,
            draft: RefCell::new(Draft::new()),
            input: PhantomData,
        }
    }

    /// The definition's version; 1 unless told.
    #[must_use]
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// What becomes of the other steps when one fails; two seconds of grace unless told.
    #[must_use]
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    /// What an undo that failed for good means for those after it.
    #[must_use]
    pub fn on_stuck(mut self, on_stuck: OnStuck) -> Self {
        self.on_stuck = on_stuck;
        self
    }

    /// A saga that takes longer is undone, unless its pivot is done.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sends `<saga>.<step>.success`, `.failed` and `.compensated`, `<saga>.completed` and
    /// `<saga>.failed` to a topic, each with the record that it tells of.
    #[must_use]
    pub fn events(mut self, topic: &str) -> Self {
        self.events = Some(topic.into());
        self
    }

    /// The saga's input, for steps that read it.
    pub fn input(&self) -> Step<'_, I, I> {
        Step::new(&self.draft, INPUT, read_value::<I>)
    }

    /// A step that gets the saga's input.
    pub fn step<T, F, Fut>(&self, name: &str, f: F) -> Step<'_, I, T>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: Fn(Ctx, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = StepResult<T>> + Send + 'static,
    {
        self.after(self.input()).step(name, f)
    }

    /// What comes after these steps and gets their results.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "handles are copied, and read better so"
    )]
    pub fn after<N: Inputs>(&self, steps: N) -> After<'_, N::Value> {
        After {
            draft: &self.draft,
            source: steps.source(),
        }
    }

    /// The saga's output is this step's result.
    pub fn returns<A, T, O>(&self, step: Step<'_, A, T, O>) -> Returning<'_, I, O>
    where
        O: Serialize + DeserializeOwned + Send + 'static,
        A: 'static,
        T: 'static,
    {
        let key = step.key();
        let node = key.index;
        if key.builder != self.draft.borrow().id || is_input(key) {
            let step = "returns".to_owned();
            self.draft.borrow_mut().flaws.push(Flaw::Foreign { step });
        }
        Returning {
            builder: self,
            output: MakeOutput {
                node,
                encode: as_json,
            },
            kind: PhantomData,
        }
    }

    /// Checks the definition.
    ///
    /// # Errors
    /// [`Error::Definition`] with everything that is wrong.
    pub fn build(&self) -> Result<Saga<I, ()>> {
        self.finish(None)
    }

    fn finish<O>(&self, output: Option<MakeOutput>) -> Result<Saga<I, O>> {
        let draft = self.draft.borrow();
        let mut nodes = draft.graph();
        let mut flaws = draft.flaws.clone();
        flaws.extend(check::check(&self.name, &mut nodes));
        if !flaws.is_empty() {
            let saga = self.name.clone();
            return Err(Error::Definition { saga, flaws });
        }
        let hash = hash(&self.name, self.version, &nodes);
        let plan = Plan {
            name: self.name.as_str().into(),
            version: self.version,
            hash: hash.into(),
            nodes,
            on_failure: self.on_failure,
            on_stuck: self.on_stuck,
            deadline: self.deadline,
            events: self.events.clone(),
            output,
        };
        Ok(Saga::new(plan))
    }
}

/// A builder that knows which step's result is the saga's output.
pub struct Returning<'b, I, O> {
    builder: &'b Builder<I>,
    output: MakeOutput,
    kind: PhantomData<fn() -> O>,
}

impl<I, O> Returning<'_, I, O>
where
    I: Serialize + DeserializeOwned + Send + 'static,
{
    /// Checks the definition.
    ///
    /// # Errors
    /// [`Error::Definition`] with everything that is wrong.
    pub fn build(&self) -> Result<Saga<I, O>> {
        self.builder.finish(Some(self.output))
    }
}

/// A reader that takes outputs in order, as one that takes arguments.
pub(crate) fn of_outputs<A: 'static>(read: super::inputs::ReadArgs<A>) -> Read<A> {
    Arc::new(move |args| read(&mut args.outputs.iter()))
}
