//! Tries to break a saga: every step with every fault, every pair of them, in virtual time, on a
//! journal in memory; and random sagas with random faults, each reproducible by one number.
//!
//! The steps are the user's own functions. They run many times, so they must not reach the world:
//! give them fakes. What is checked needs nothing from them: the engine says what ran, with which
//! key and when, and the journal says what was kept.

mod check;
mod pace;
mod random;
mod scene;
mod script;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::definition::plan::{Plan, Work};
use crate::{Journal, Saga, Status};
use scene::{Scene, play};
pub use script::Break;
pub use script::Harm;

pub use random::random;

/// What came of an exploration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Runs, one per fault or pair.
    pub runs: usize,
    /// Runs that broke a promise: which faults, and what happened.
    pub violations: Vec<String>,
    /// How the runs ended.
    pub ends: HashMap<Status, usize>,
}

/// How a saga is explored.
pub struct Explore<'a> {
    plan: Arc<Plan>,
    input: Input<'a>,
    signals: HashMap<String, Bytes>,
    pairs: bool,
    steps: Option<&'a [&'a str]>,
    except: &'a [(&'a str, Harm)],
    journal: Option<Journal>,
}

/// What the runs are started with.
enum Input<'a> {
    /// All with the same.
    Same(Bytes),
    /// Each with what this makes.
    Made(Box<dyn Fn() -> BoxFuture<'a, Bytes> + 'a>),
}

/// Runs a saga once for every fault and once for every pair of faults, and reports what promise was
/// broken. Approvals are given. Call it where tokio's time is paused.
///
/// # Panics
/// When the input cannot be written as JSON.
pub async fn explore<I: Serialize, O>(saga: &Saga<I, O>, input: &I) -> Report {
    Explore::new(saga, input).run().await
}

// === impl Explore ===

impl<'a> Explore<'a> {
    /// Everything, pairs included.
    ///
    /// # Panics
    /// When the input cannot be written as JSON.
    pub fn new<I: Serialize, O>(saga: &Saga<I, O>, input: &I) -> Self {
        let input = serde_json::to_vec(input).expect("the input of a saga is written as JSON");
        Self {
            plan: saga.plan(),
            input: Input::Same(input.into()),
            signals: HashMap::new(),
            pairs: true,
            steps: None,
            except: &[],
            journal: None,
        }
    }

    /// Plays in this journal, in a database, in place of one in memory: for sagas with steps in
    /// transactions. `input` makes what a run is started with, and the world that it works on, anew
    /// for each. Runs on a runtime of one thread.
    ///
    /// # Panics
    /// When an input cannot be written as JSON.
    #[must_use]
    pub fn on<I, Fut>(mut self, journal: &Journal, input: impl Fn() -> Fut + 'a) -> Self
    where
        I: Serialize,
        Fut: Future<Output = I> + Send + 'a,
    {
        let made = move || {
            let made = input();
            let written = async {
                let input = serde_json::to_vec(&made.await);
                Bytes::from(input.expect("the input of a saga is written as JSON"))
            };
            Box::pin(written) as BoxFuture<'a, Bytes>
        };
        self.input = Input::Made(Box::new(made));
        self.journal = Some(journal.clone());
        self
    }

    /// Leaves these faults out: a step that may wait for as long as it likes has no end when it
    /// hangs.
    #[must_use]
    pub fn except(mut self, faults: &'a [(&'a str, Harm)]) -> Self {
        self.except = faults;
        self
    }

    /// The value of a signal that the saga waits for.
    ///
    /// # Panics
    /// When the value cannot be written as JSON.
    #[must_use]
    pub fn signal<T: Serialize>(mut self, name: &str, value: &T) -> Self {
        let value = serde_json::to_vec(value).expect("a signal's value is written as JSON");
        self.signals.insert(name.to_owned(), value.into());
        self
    }

    /// One fault at a time only.
    #[must_use]
    pub fn singles(mut self) -> Self {
        self.pairs = false;
        self
    }

    /// Faults of these steps only.
    #[must_use]
    pub fn only(mut self, steps: &'a [&'a str]) -> Self {
        self.steps = Some(steps);
        self
    }

    /// Every single fault of the saga.
    pub fn breaks(&self) -> Vec<Break> {
        let mut breaks = Vec::new();
        for node in &self.plan.nodes {
            let is_wanted = self.steps.is_none_or(|steps| steps.contains(&&*node.name));
            let runs = matches!(node.work, Work::Run(_) | Work::InTx(_) | Work::Child(_));
            if !is_wanted || !runs {
                continue;
            }
            // What a child does has limits of its own; waiting for it has none.
            let is_child = matches!(node.work, Work::Child(_));
            let harms = Harm::ALL.into_iter();
            let is_left_out = |harm: Harm| self.except.contains(&(&*node.name, harm));
            let harms = harms.filter(|harm| !is_child || *harm != Harm::Hang);
            for harm in harms.filter(|harm| !is_left_out(*harm)) {
                let mut directions = vec![false];
                directions.extend(node.is_undoable().then_some(true));
                breaks.extend(directions.into_iter().map(|undoing| Break {
                    step: node.name.to_string(),
                    undoing,
                    harm,
                }));
            }
        }
        breaks
    }

    /// Plays everything.
    pub async fn run(self) -> Report {
        let mut report = Report::default();
        let breaks = self.breaks();
        self.one(&mut report, Vec::new()).await;
        for (index, first) in breaks.iter().enumerate() {
            self.one(&mut report, vec![first.clone()]).await;
            if !self.pairs {
                continue;
            }
            for second in breaks.iter().skip(index + 1) {
                if (&first.step, first.undoing) != (&second.step, second.undoing) {
                    self.one(&mut report, vec![first.clone(), second.clone()])
                        .await;
                }
            }
        }
        report
    }

    async fn one(&self, report: &mut Report, breaks: Vec<Break>) {
        let input = match &self.input {
            Input::Same(input) => input.clone(),
            Input::Made(make) => make().await,
        };
        let scene = Scene {
            plan: Arc::clone(&self.plan),
            input,
            signals: self.signals.clone(),
            breaks,
            seed: 7,
        };
        report.add(play(scene, self.journal.as_ref()).await);
    }
}

// === impl Report ===

impl Report {
    fn add(&mut self, played: scene::Played) {
        self.runs += 1;
        *self.ends.entry(played.status).or_default() += 1;
        for what in played.violations {
            self.violations.push(format!("{}: {what}", played.title));
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} runs, ends {:?}", self.runs, self.ends)?;
        for violation in self.violations.iter().take(20) {
            writeln!(f, "{violation}")?;
        }
        Ok(())
    }
}
