//! A definition without its functions: kept in the journal, so that processes that cannot run a
//! saga can draw it, foresee it, and tell which orders it takes.
//!
//! JSON with one name a property. New names may be added; old ones keep their meaning.

use std::collections::HashMap;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};

use super::inputs::INPUT;
use super::plan::{Child, MakeOutput, Node, OnStuck, Plan, Signal, Undo, WayOn, Work};
use super::values::as_json;
use crate::{DryRun, OnFailure, Retry, StepError, draw, dry_run};

/// A definition without its functions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    name: String,
    version: u32,
    hash: String,
    steps: Vec<Shape>,
    on_failure: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grace_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "is_false")]
    best_effort: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<u64>,
    /// The step whose result is the saga's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output: Option<usize>,
}

/// A step without its functions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Shape {
    name: String,
    #[serde(flatten)]
    kind: Kind,
    /// What it reads: steps by their number, `null` for the saga's input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    reads: Vec<Option<usize>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    after: Vec<usize>,
    #[serde(default, skip_serializing_if = "is_false")]
    undo: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    maybe: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pivot: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    after_pivot: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    each: Option<usize>,
    #[serde(default, skip_serializing_if = "is_false")]
    alternative: bool,
    /// JSON as text: what is used when the step fails after the pivot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Kind {
    Run,
    Transaction,
    Sleep {
        ms: u64,
    },
    Signal {
        signal: String,
        within_ms: Option<u64>,
    },
    Child {
        saga: String,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_false(value: &bool) -> bool {
    !value
}

// === impl Outline ===

impl Outline {
    pub(crate) fn of(plan: &Plan) -> Self {
        let grace = match plan.on_failure {
            OnFailure::FailFastWithGrace(grace) => Some(ms(grace)),
            OnFailure::FailFast | OnFailure::WaitAll => None,
        };
        Self {
            name: plan.name.to_string(),
            version: plan.version,
            hash: plan.hash.to_string(),
            steps: plan.nodes.iter().map(Shape::of).collect(),
            on_failure: plan.on_failure.as_str().to_owned(),
            grace_ms: grace,
            best_effort: plan.on_stuck == OnStuck::BestEffort,
            deadline_ms: plan.deadline.map(ms),
            output: plan.output.map(|it| it.node),
        }
    }

    /// The definition's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The definition's version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The definition's hash.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The names of the steps, in the order of their declaration.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|it| it.name.as_str())
    }

    /// As [`crate::Saga::mermaid`].
    pub fn mermaid(&self) -> String {
        draw::definition(&self.plan())
    }

    /// As [`crate::Saga::dry_run`].
    pub fn dry_run(&self, takes: &HashMap<String, Duration>) -> DryRun {
        dry_run::of(&self.plan(), |step| takes.get(step).copied())
    }

    /// A plan whose functions do nothing: for folding records, never for running them.
    pub(crate) fn plan(&self) -> Arc<Plan> {
        let mut nodes: Vec<Node> = self.steps.iter().map(Shape::node).collect();
        for (index, shape) in self.steps.iter().enumerate() {
            for before in &shape.after {
                if let Some(node) = nodes.get_mut(*before) {
                    node.succs.push(index);
                }
            }
        }
        let word = OnFailure::parse(&self.on_failure).unwrap_or_default();
        let on_failure = match (word, self.grace_ms) {
            (OnFailure::FailFastWithGrace(_), Some(ms)) => {
                OnFailure::FailFastWithGrace(Duration::from_millis(ms))
            }
            (word, _) => word,
        };
        Arc::new(Plan {
            name: self.name.as_str().into(),
            version: self.version,
            hash: self.hash.as_str().into(),
            nodes,
            on_failure,
            on_stuck: if self.best_effort {
                OnStuck::BestEffort
            } else {
                OnStuck::Strict
            },
            deadline: self.deadline_ms.map(Duration::from_millis),
            events: None,
            output: self.output.map(|node| MakeOutput {
                node,
                encode: as_json,
            }),
        })
    }
}

// === impl Shape ===

impl Shape {
    fn of(node: &Node) -> Self {
        let reads = node
            .data
            .iter()
            .map(|at| Some(*at).filter(|at| *at != INPUT));
        let value = match &node.way_on {
            WayOn::Value(value) => Some(String::from_utf8_lossy(value).into_owned()),
            WayOn::Park | WayOn::Alternative(_) => None,
        };
        Self {
            name: node.name.to_string(),
            kind: Kind::of(&node.work),
            reads: reads.collect(),
            after: node.preds.clone(),
            undo: node.undo.is_some(),
            maybe: node.when.is_some(),
            pivot: node.pivot,
            after_pivot: node.after_pivot,
            each: node.width,
            alternative: matches!(node.way_on, WayOn::Alternative(_)),
            value,
        }
    }

    fn node(&self) -> Node {
        let no = || StepError::rejected("an outline is not run");
        let way_on = match (&self.value, self.alternative) {
            (Some(value), _) => WayOn::Value(Bytes::from(value.clone())),
            (None, true) => WayOn::Alternative(Arc::new(move |_, _| ready(Err(no())).boxed())),
            (None, false) => WayOn::Park,
        };
        Node {
            name: self.name.as_str().into(),
            data: self.reads.iter().map(|at| at.unwrap_or(INPUT)).collect(),
            preds: self.after.clone(),
            succs: Vec::new(),
            work: self.kind.work(),
            undo: self
                .undo
                .then(|| Undo::Run(Arc::new(move |_, _, _| ready(Err(no())).boxed()))),
            when: self
                .maybe
                .then(|| -> super::plan::WhenFn { Arc::new(move |_| Err(no())) }),
            retry: Retry::none(),
            timeout: Duration::ZERO,
            undo_retry: Retry::none(),
            undo_timeout: Duration::ZERO,
            heartbeat: None,
            pivot: self.pivot,
            after_pivot: self.after_pivot,
            way_on,
            excuse: None,
            record_start: false,
            width: self.each,
        }
    }
}

// === impl Kind ===

impl Kind {
    fn of(work: &Work) -> Self {
        match work {
            Work::Run(_) => Self::Run,
            Work::InTx(_) => Self::Transaction,
            Work::Sleep(time) => Self::Sleep { ms: ms(*time) },
            Work::Signal(signal) => Self::Signal {
                signal: signal.name.to_string(),
                within_ms: signal.deadline.map(ms),
            },
            Work::Child(child) => Self::Child {
                saga: child.plan.name.to_string(),
            },
        }
    }

    fn work(&self) -> Work {
        let no = || StepError::rejected("an outline is not run");
        match self {
            Self::Run => Work::Run(Arc::new(move |_, _| ready(Err(no())).boxed())),
            Self::Transaction => Work::InTx(Arc::new(move |_, _, _| ready(Err(no())).boxed())),
            Self::Sleep { ms } => Work::Sleep(Duration::from_millis(*ms)),
            Self::Signal { signal, within_ms } => Work::Signal(Signal {
                name: signal.as_str().into(),
                deadline: within_ms.map(Duration::from_millis),
                accept: |_| Err(StepError::rejected("an outline is not run")),
            }),
            Self::Child { saga } => Work::Child(Child {
                plan: childless(saga),
                input: Arc::new(move |_| Err(no())),
            }),
        }
    }
}

/// Only its name is asked for.
fn childless(name: &str) -> Arc<Plan> {
    Arc::new(Plan {
        name: name.into(),
        version: 0,
        hash: "".into(),
        nodes: Vec::new(),
        on_failure: OnFailure::default(),
        on_stuck: OnStuck::default(),
        deadline: None,
        events: None,
        output: None,
    })
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
