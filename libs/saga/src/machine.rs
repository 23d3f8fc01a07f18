//! The state of one saga: its records folded, and what can be done next. Pure: no clock, no I/O,
//! no randomness; time and chance are arguments.
//!
//! Records are applied in the order of their numbers, by the process that writes them and by one
//! that reads them back: both arrive at the same state. The only difference is what a process
//! knows of its own running attempts ([`Unit::running`]); who reads the journal back must assume
//! that everything that could have been started was ([`Machine::recovered`]).

mod deeds;
mod forward;
mod judge;
mod undo;

use std::sync::Arc;

use bytes::Bytes;
use ratebox_kit::Timestamp;

use crate::definition::plan::{Plan, Work};
use crate::definition::values::Output;
use crate::{Class, Kind, Record, Status};

pub(crate) use deeds::Deed;
pub(crate) use judge::{Attempt, Ended};

/// One saga.
pub(crate) struct Machine {
    plan: Arc<Plan>,
    input: Bytes,
    nodes: Vec<NodeState>,
    phase: Phase,
    /// A step failed, or somebody wants it undone: the first reason.
    cause: Option<String>,
    /// A pivot is done.
    committed: bool,
    /// A step after the pivot failed at least once.
    struggled: bool,
    /// An effect was left where it is by an operator.
    left: bool,
    /// The saga as a whole waits for an operator.
    parked: bool,
    /// Whether this process runs it, or still reads it back.
    live: bool,
    next_seq: u32,
    /// When what is being taken in was known.
    at: Timestamp,
}

/// Which way it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Steps are started as soon as those before them are settled.
    Forward,
    /// Nothing new starts; what runs is waited for.
    Stopping,
    /// Steps are undone as soon as those after them are.
    Undoing,
    /// Over.
    Ended(Status),
}

/// One step of it.
struct NodeState {
    /// Steps before it that are not settled.
    waits: usize,
    /// Steps after it that are not unwound.
    waits_undo: usize,
    /// What it consists of, once it could start: one unit, or one per item.
    units: Vec<Unit>,
    stage: Stage,
    /// It depends on a step that failed.
    blocked: bool,
    unwound: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// For those before it.
    Waiting,
    Active,
    /// Done, all units of it.
    Done,
    Skipped,
}

/// One thing to do: a step, or one item of a fan-out.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) state: UnitState,
    /// An attempt runs in this process. Never recorded.
    pub(crate) running: bool,
    /// An attempt may have had its effect, and no later one said that it is done.
    doubt: bool,
    attempts: u32,
    /// It failed for good, and its alternative is tried.
    alternative: bool,
    item: Option<Bytes>,
    result: Option<Bytes>,
}

/// Where a unit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnitState {
    /// It can run, or runs.
    Ready,
    /// It is tried again at this time.
    Backoff(Timestamp),
    /// It waits for a signal, or until this time.
    Armed(Timestamp),
    Done,
    /// For good.
    Failed(Class),
    /// Failed for good where there is no way back: an operator decides.
    Stuck(Class),
    /// Its undo can run, or runs.
    UndoReady,
    UndoBackoff(Timestamp),
    Undone,
    /// Its undo failed for good: an operator decides.
    UndoStuck,
    /// There is nothing to undo.
    Clean,
}

/// Which unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UnitKey {
    pub(crate) node: usize,
    pub(crate) item: usize,
}

// === impl Unit ===

impl Unit {
    fn new(item: Option<Bytes>) -> Self {
        Self {
            state: UnitState::Ready,
            running: false,
            doubt: false,
            attempts: 0,
            alternative: false,
            item,
            result: None,
        }
    }

    /// Whether something will come of it without an operator.
    fn is_moving(&self) -> bool {
        match self.state {
            UnitState::Ready
            | UnitState::Backoff(_)
            | UnitState::Armed(_)
            | UnitState::UndoReady
            | UnitState::UndoBackoff(_) => true,
            UnitState::Done
            | UnitState::Failed(_)
            | UnitState::Stuck(_)
            | UnitState::Undone
            | UnitState::UndoStuck
            | UnitState::Clean => false,
        }
    }
}

// === impl Machine ===

impl Machine {
    /// A saga that has done nothing yet.
    pub(crate) fn new(plan: Arc<Plan>, input: Bytes) -> Self {
        let node = |node: &crate::definition::plan::Node| NodeState {
            waits: node.preds.len(),
            waits_undo: node.succs.len(),
            units: Vec::new(),
            stage: Stage::Waiting,
            blocked: false,
            unwound: false,
        };
        let mut machine = Self {
            nodes: plan.nodes.iter().map(node).collect(),
            plan,
            input,
            phase: Phase::Forward,
            cause: None,
            committed: false,
            struggled: false,
            left: false,
            parked: false,
            live: true,
            next_seq: 0,
            at: Timestamp::MIN,
        };
        machine.advance();
        machine
    }

    /// A saga as its records say, to be run by this process from now on. Whatever could have been
    /// started counts as started: its effect is in doubt. Where nothing is started any more it is
    /// unknown for good; the records that say so must be written before anything is undone.
    pub(crate) fn replay(
        plan: Arc<Plan>,
        input: Bytes,
        records: &[Record],
        now: Timestamp,
    ) -> (Self, Vec<Record>) {
        let mut machine = Self::folded(plan, input, records);
        let news = machine.recovered(now);
        (machine, news)
    }

    /// A new saga that begins with records of another: nothing of it has been started.
    pub(crate) fn forked(plan: Arc<Plan>, input: Bytes, records: &[Record]) -> Self {
        let mut machine = Self::folded(plan, input, records);
        machine.live = true;
        machine
    }

    /// The records folded, and nothing assumed: for views.
    pub(crate) fn folded(plan: Arc<Plan>, input: Bytes, records: &[Record]) -> Self {
        let mut machine = Self::new(plan, input);
        machine.live = false;
        for record in records {
            machine.apply(record);
        }
        machine
    }

    fn recovered(&mut self, now: Timestamp) -> Vec<Record> {
        let keys: Vec<UnitKey> = self.keys().collect();
        let mut open = Vec::new();
        for key in keys {
            // A transaction that left no record left nothing.
            let in_doubt = !self.is_transaction(key.node);
            if let Some(unit) = self.unit_mut(key).filter(|it| it.state == UnitState::Ready) {
                unit.doubt |= in_doubt;
                open.push((key, in_doubt));
            }
        }
        let mut news = Vec::new();
        if self.phase == Phase::Stopping {
            open.retain(|(key, _)| !self.is_pivot(key.node));
            for (key, in_doubt) in open {
                let class = if in_doubt {
                    Class::Unknown
                } else {
                    Class::Rejected
                };
                let mut record = self.record(key, Kind::Failed, now);
                record.class = Some(class);
                record.note = Some("the process that ran it is gone".to_owned());
                self.apply(&record);
                news.push(record);
            }
        }
        self.live = true;
        news
    }

    /// Takes a record in. Records that say nothing new are harmless.
    pub(crate) fn apply(&mut self, record: &Record) {
        self.next_seq = self.next_seq.max(record.seq + 1);
        self.at = record.at;
        match record.kind {
            Kind::Cancelled
            | Kind::Parked
            | Kind::Revived
            | Kind::LeftOut
            | Kind::Supplied
            | Kind::Resumed
            | Kind::Abandoned => self.apply_deed(record),
            Kind::Undone | Kind::UndoRetry | Kind::UndoFailed => {
                self.never_started();
                self.apply_undo(record);
            }
            Kind::Started
            | Kind::Retry
            | Kind::Done
            | Kind::Failed
            | Kind::Skipped
            | Kind::Armed => self.apply_forward(record),
        }
        self.advance();
    }

    /// Something was undone, so whatever ran had ended by then, and its record was read; what has
    /// none never ran, or not again.
    fn never_started(&mut self) {
        if self.phase != Phase::Stopping {
            return;
        }
        for unit in self.nodes.iter_mut().flat_map(|node| &mut node.units) {
            if unit.state == UnitState::Ready {
                unit.state = if unit.doubt {
                    UnitState::Failed(Class::Unknown)
                } else {
                    UnitState::Clean
                };
            }
        }
        self.advance();
    }

    /// Draws every conclusion from what is known.
    fn advance(&mut self) {
        if self.phase == Phase::Forward {
            self.activate();
            if self.nodes.iter().all(NodeState::is_settled) {
                self.phase = Phase::Ended(Status::Completed);
            } else if self.cause.is_some()
                && !self.committed
                && !self.is_moving()
                && !self.is_stuck()
            {
                self.phase = Phase::Undoing;
            }
        }
        if self.phase == Phase::Stopping && !self.is_moving() && !self.is_stuck() {
            self.phase = Phase::Undoing;
        }
        if self.phase == Phase::Undoing {
            self.unwind();
        }
    }

    /// Whether something will happen without an operator.
    pub(crate) fn is_moving(&self) -> bool {
        self.nodes
            .iter()
            .any(|node| node.units.iter().any(Unit::is_moving))
    }

    /// Whether a step waits for an operator on the way forward.
    fn is_stuck(&self) -> bool {
        let mut units = self.nodes.iter().flat_map(|node| &node.units);
        units.any(|unit| matches!(unit.state, UnitState::Stuck(_)))
    }

    fn is_pivot(&self, node: usize) -> bool {
        self.plan.nodes.get(node).is_some_and(|it| it.pivot)
    }

    fn unit(&self, key: UnitKey) -> Option<&Unit> {
        self.nodes.get(key.node)?.units.get(key.item)
    }

    fn unit_mut(&mut self, key: UnitKey) -> Option<&mut Unit> {
        self.nodes.get_mut(key.node)?.units.get_mut(key.item)
    }

    pub(crate) fn key_of(&self, record: &Record) -> Option<UnitKey> {
        let node = self.plan.find(&record.step)?;
        let item = usize::try_from(record.item).ok()?;
        Some(UnitKey { node, item })
    }

    /// What a node left for those after it.
    fn output(&self, node: usize) -> Output {
        let Some(state) = self.nodes.get(node) else {
            return Output::Value(self.input.clone());
        };
        let is_fan_out = self
            .plan
            .nodes
            .get(node)
            .is_some_and(|it| it.width.is_some());
        let result = |unit: &Unit| unit.result.clone().unwrap_or_else(null);
        match (state.stage, state.units.as_slice()) {
            (Stage::Done, units) if is_fan_out => Output::Items(units.iter().map(result).collect()),
            (Stage::Done, [unit]) => Output::Value(result(unit)),
            _ => Output::Skipped,
        }
    }

    pub(crate) fn is_transaction(&self, node: usize) -> bool {
        let work = self.plan.nodes.get(node).map(|it| &it.work);
        matches!(work, Some(Work::InTx(_)))
    }

    // What others ask.

    pub(crate) fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    pub(crate) fn is_committed(&self) -> bool {
        self.committed
    }

    /// In the words of the journal.
    pub(crate) fn status(&self) -> Status {
        match self.phase {
            Phase::Ended(status) => status,
            _ if self.parked => Status::Parked,
            _ if !self.is_moving() => Status::Parked,
            Phase::Stopping | Phase::Undoing => Status::Compensating,
            Phase::Forward if self.cause.is_some() && !self.committed => Status::Compensating,
            Phase::Forward if self.committed && self.struggled => Status::ForwardRecovery,
            Phase::Forward => Status::Executing,
        }
    }

    /// The earliest time at which something becomes possible by itself.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let units = self.nodes.iter().flat_map(|node| &node.units);
        units.filter_map(Unit::due).min()
    }

    /// Each unit of a step with its state, for views.
    pub(crate) fn units(&self, node: usize) -> &[Unit] {
        self.nodes.get(node).map_or(&[], |it| &it.units)
    }

    pub(crate) fn is_skipped(&self, node: usize) -> bool {
        self.nodes
            .get(node)
            .is_some_and(|it| it.stage == Stage::Skipped)
    }

    /// The saga's output, once it completed.
    pub(crate) fn final_output(&self) -> Option<Bytes> {
        let output = self.plan.output?;
        (output.encode)(&self.output(output.node)).ok()
    }
}

impl Unit {
    /// Attempts so far.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// When it can go on by itself, if it waits for that.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        match self.state {
            UnitState::Backoff(due) | UnitState::UndoBackoff(due) => Some(due),
            UnitState::Armed(due) => (due < Timestamp::MAX).then_some(due),
            UnitState::Ready
            | UnitState::Done
            | UnitState::Failed(_)
            | UnitState::Stuck(_)
            | UnitState::UndoReady
            | UnitState::Undone
            | UnitState::UndoStuck
            | UnitState::Clean => None,
        }
    }
}

impl NodeState {
    fn is_settled(&self) -> bool {
        matches!(self.stage, Stage::Done | Stage::Skipped)
    }
}

/// What a step without a result leaves.
pub(crate) fn null() -> Bytes {
    Bytes::from_static(b"null")
}
