//! A saga as people see it, now or at an earlier time: its head, and its steps with their states.

use std::sync::Arc;

use ratebox_kit::Timestamp;

use crate::definition::plan::Plan;
use crate::journal::store::{Head, Stored, Wake};
use crate::machine::{Machine, Unit, UnitState};
use crate::{Error, Kind, Record, Result, Status};

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepState {
    /// Steps before it are not done.
    Waiting,
    /// It can run, or runs.
    Running,
    /// It waits for a time: to be tried again, or because it is told to.
    Sleeping,
    /// It waits for a signal or an approval.
    Signal,
    /// It is done.
    Done,
    /// It was left out.
    Skipped,
    /// It failed for good.
    Failed,
    /// Its undo can run, or runs, or waits to be tried again.
    Undoing,
    /// It was undone.
    Undone,
    /// It, or its undo, waits for an operator.
    Parked,
}

/// A step of a saga.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepView {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: StepState,
    /// Attempts that ended.
    pub attempts: u32,
    /// How long the attempt took that decided, in microseconds.
    pub took_us: u64,
    /// Items of a fan-out that are done, and all of them.
    pub items: Option<(usize, usize)>,
    /// The last error.
    pub error: Option<String>,
    /// The names of the steps before it.
    pub after: Vec<String>,
    /// Whether it is a pivot.
    pub pivot: bool,
    /// Whether it has an undo.
    pub undo: bool,
}

/// A saga with its steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its head. At an earlier time: what its records told by then, without an owner, since they
    /// do not tell who that was.
    pub head: Head,
    /// Its steps, in the order of their declaration.
    pub steps: Vec<StepView>,
    /// Its records, by number; at an earlier time those that it had by then.
    pub records: Vec<Record>,
    /// When its first step was done or failed, if one has.
    pub first_at: Option<Timestamp>,
}

// === impl StepState ===

impl StepState {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Sleeping => "sleeping",
            Self::Signal => "signal",
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
            Self::Parked => "parked",
        }
    }
}

// === impl View ===

impl View {
    /// As it stands now, or stood at a time.
    ///
    /// # Errors
    /// [`Error::NoSuchSaga`] when it was started after that time.
    pub(crate) fn of(plan: &Arc<Plan>, stored: Stored, at: Option<Timestamp>) -> Result<Self> {
        let (mut head, mut records) = (stored.head, stored.records);
        if let Some(at) = at {
            if at < head.created_at {
                return Err(Error::NoSuchSaga { id: head.id });
            }
            records.retain(|it| it.at <= at);
        }
        let machine = Machine::folded(Arc::clone(plan), head.input.clone(), &records);
        // A head that was not written since says more than the records: it is as it was.
        if at.is_some_and(|at| at < head.updated_at) {
            head = head_then(head, &machine, &records);
        }
        let steps = (0..plan.nodes.len()).filter_map(|node| step(plan, &machine, &records, node));
        Ok(Self {
            steps: steps.collect(),
            first_at: records.first().map(|it| it.at),
            head,
            records,
        })
    }
}

/// The head as it was when the saga had no more than these records.
fn head_then(head: Head, machine: &Machine, records: &[Record]) -> Head {
    let status = machine.status();
    let last_at = records.last().map_or(head.created_at, |it| it.at);
    let tells_error = |it: &Record| {
        matches!(
            it.kind,
            Kind::Failed | Kind::UndoFailed | Kind::Cancelled | Kind::Parked
        )
    };
    let due = machine.next_due().filter(|_| status != Status::Parked);
    Head {
        status,
        wake: due.map_or(Wake::Live, Wake::At),
        // The first error is never overwritten: if there was one, it was that of now.
        error: head.error.filter(|_| records.iter().any(tells_error)),
        output: head.output.filter(|_| status == Status::Completed),
        owner: None,
        // Records that a fork took along are older than the saga.
        updated_at: last_at.max(head.created_at),
        ended_at: status.is_end().then_some(last_at),
        ..head
    }
}

fn step(plan: &Plan, machine: &Machine, records: &[Record], index: usize) -> Option<StepView> {
    let node = plan.nodes.get(index)?;
    let units = machine.units(index);
    let own = || records.iter().filter(|it| it.step == node.name);
    let decided = |it: &&Record| matches!(it.kind, Kind::Done | Kind::Failed);
    let name = |at: &usize| plan.nodes.get(*at).map(|it| it.name.to_string());
    let done = units.iter().filter(|it| it.state == UnitState::Done);
    Some(StepView {
        name: node.name.to_string(),
        state: match of_units(units) {
            _ if machine.is_skipped(index) => StepState::Skipped,
            // There was nothing to undo: what it came to before that says more.
            StepState::Skipped => own()
                .rev()
                .find_map(|it| came_to(it.kind))
                .unwrap_or(StepState::Skipped),
            state => state,
        },
        attempts: own().map(|it| it.attempt).max().unwrap_or(0),
        took_us: own()
            .filter(decided)
            .map(|it| it.took_us)
            .max()
            .unwrap_or(0),
        items: node.width.map(|_| (done.count(), units.len())),
        error: own().rev().find_map(|it| it.note.clone()),
        after: node.preds.iter().filter_map(name).collect(),
        pivot: node.pivot,
        undo: node.is_undoable(),
    })
}

/// What a record says of a step for good.
fn came_to(kind: Kind) -> Option<StepState> {
    match kind {
        Kind::Done => Some(StepState::Done),
        Kind::Failed => Some(StepState::Failed),
        _ => None,
    }
}

/// The state of a step is that of the unit that needs most attention.
fn of_units(units: &[Unit]) -> StepState {
    let states = units.iter().map(|unit| match unit.state {
        UnitState::Stuck(_) | UnitState::UndoStuck => (0, StepState::Parked),
        UnitState::UndoReady | UnitState::UndoBackoff(_) => (1, StepState::Undoing),
        UnitState::Failed(_) => (2, StepState::Failed),
        UnitState::Ready => (3, StepState::Running),
        UnitState::Backoff(_) => (4, StepState::Sleeping),
        UnitState::Armed(due) if due < Timestamp::MAX => (5, StepState::Sleeping),
        UnitState::Armed(_) => (6, StepState::Signal),
        UnitState::Undone => (7, StepState::Undone),
        UnitState::Done => (8, StepState::Done),
        UnitState::Clean => (9, StepState::Skipped),
    });
    states
        .min_by_key(|(rank, _)| *rank)
        .map_or(StepState::Waiting, |(_, state)| state)
}
