//! What people do to a saga: each deed is a record with who and why.

use std::sync::Arc;

use bytes::Bytes;
use ratebox_kit::Timestamp;

use super::{Machine, Phase, Unit, UnitKey, UnitState};
use crate::definition::plan::Work;
use crate::record::note;
use crate::{Class, Kind, Record, Status};

/// Something an operator orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deed {
    pub(crate) kind: Kind,
    /// Empty for the saga as a whole.
    pub(crate) step: Arc<str>,
    pub(crate) payload: Option<Bytes>,
    pub(crate) who: Option<String>,
    pub(crate) why: String,
}

impl Machine {
    /// Whether a deed can be done now.
    ///
    /// # Errors
    /// Why not, for the operator.
    pub(crate) fn allows(&self, deed: &Deed) -> Result<(), &'static str> {
        match deed.kind {
            Kind::Cancelled if self.committed => Err("its pivot is done: there is no way back"),
            Kind::Cancelled => match self.phase {
                Phase::Forward | Phase::Ended(Status::Completed) => Ok(()),
                Phase::Stopping | Phase::Undoing => Err("it is being undone already"),
                Phase::Ended(_) => Err("it has ended"),
            },
            Kind::Abandoned => match self.phase {
                Phase::Ended(_) => Err("it has ended"),
                _ if self.status() != Status::Parked => Err("only a parked saga is abandoned"),
                Phase::Forward | Phase::Stopping | Phase::Undoing => Ok(()),
            },
            Kind::Resumed if self.parked => Ok(()),
            Kind::Resumed => Err("it is not parked as a whole"),
            Kind::Revived | Kind::LeftOut | Kind::Supplied => self.allows_step(deed),
            _ => Err("this is no deed"),
        }
    }

    /// Whether a step waits for a signal of this name, or may come to it.
    ///
    /// # Errors
    /// Why not, for the operator.
    pub(crate) fn listens(&self, signal: &str) -> Result<(), &'static str> {
        if self.phase != Phase::Forward {
            return Err("it has ended, or is being undone");
        }
        let is_it = |work: &Work| matches!(work, Work::Signal(it) if *it.name == *signal);
        let mut nodes = (0..self.plan.nodes.len())
            .filter(|at| self.plan.nodes.get(*at).is_some_and(|it| is_it(&it.work)))
            .peekable();
        if nodes.peek().is_none() {
            return Err("no step waits for that");
        }
        let may_read = |unit: &Unit| matches!(unit.state, UnitState::Ready | UnitState::Armed(_));
        let is_open = |at: usize| {
            let units = self.units(at);
            !self.is_skipped(at) && (units.is_empty() || units.iter().any(may_read))
        };
        match nodes.any(is_open) {
            true => Ok(()),
            false => Err("nothing waits for that any more"),
        }
    }

    fn allows_step(&self, deed: &Deed) -> Result<(), &'static str> {
        let node = self.plan.find(&deed.step).ok_or("there is no such step")?;
        let stuck = self.stuck(node).next().and_then(|key| self.unit(key));
        let unit = stuck.ok_or("the step does not wait for an operator")?;
        let is_pivot = self.plan.nodes.get(node).is_some_and(|it| it.pivot);
        let is_forward = unit.state != UnitState::UndoStuck;
        match deed.kind {
            Kind::LeftOut if is_forward && !is_pivot && self.needs_value(node) => {
                Err("later steps need its result: supply one instead")
            }
            Kind::Supplied if is_forward && deed.payload.is_none() => {
                Err("a result must be supplied")
            }
            _ => Ok(()),
        }
    }

    /// Whether leaving the step out would leave its readers without what they need.
    fn needs_value(&self, node: usize) -> bool {
        let is_optional = self
            .plan
            .nodes
            .get(node)
            .is_some_and(|it| it.when.is_some());
        self.plan.is_read(node) && !is_optional
    }

    /// Units of a step that wait for an operator.
    fn stuck(&self, node: usize) -> impl Iterator<Item = UnitKey> + '_ {
        let is_stuck =
            |unit: &Unit| matches!(unit.state, UnitState::Stuck(_) | UnitState::UndoStuck);
        let units = self.units(node).iter().enumerate();
        units
            .filter(move |(_, unit)| is_stuck(unit))
            .map(move |(item, _)| UnitKey { node, item })
    }

    /// The record of a deed.
    pub(crate) fn record_of(&self, deed: Deed, at: Timestamp) -> Record {
        Record {
            seq: self.next_seq,
            step: deed.step,
            item: 0,
            kind: deed.kind,
            class: None,
            attempt: 0,
            at,
            took_us: 0,
            due: None,
            payload: deed.payload,
            note: Some(note(&deed.why)),
            who: deed.who.map(|who| note(&who)),
        }
    }

    pub(super) fn apply_deed(&mut self, record: &Record) {
        match record.kind {
            Kind::Parked => self.parked = true,
            Kind::Resumed => self.parked = false,
            Kind::Abandoned => self.phase = Phase::Ended(Status::Failed),
            Kind::Cancelled => self.cancel(record),
            Kind::Revived | Kind::LeftOut | Kind::Supplied => {
                let Some(node) = self.plan.find(&record.step) else {
                    return;
                };
                let keys: Vec<UnitKey> = self.stuck(node).collect();
                for key in keys {
                    self.settle_stuck(key, record);
                }
            }
            Kind::Started
            | Kind::Retry
            | Kind::Done
            | Kind::Failed
            | Kind::Skipped
            | Kind::Armed
            | Kind::Undone
            | Kind::UndoRetry
            | Kind::UndoFailed => {}
        }
    }

    fn cancel(&mut self, record: &Record) {
        if self.committed {
            return;
        }
        self.parked = false;
        let why = record.note.clone().unwrap_or_default();
        self.cause.get_or_insert(why);
        match self.phase {
            Phase::Forward => {
                self.stop();
                self.give_up_stuck();
            }
            Phase::Ended(Status::Completed) => self.phase = Phase::Undoing,
            Phase::Stopping | Phase::Undoing | Phase::Ended(_) => {}
        }
    }

    /// A pivot in doubt that is cancelled by an operator counts as not done.
    fn give_up_stuck(&mut self) {
        for unit in self.nodes.iter_mut().flat_map(|node| &mut node.units) {
            if let UnitState::Stuck(class) = unit.state {
                unit.state = UnitState::Failed(class);
            }
        }
    }

    fn settle_stuck(&mut self, key: UnitKey, record: &Record) {
        let plan = Arc::clone(&self.plan);
        let Some(node) = plan.nodes.get(key.node) else {
            return;
        };
        let Some(unit) = self.unit_mut(key) else {
            return;
        };
        let is_undo = unit.state == UnitState::UndoStuck;
        match record.kind {
            Kind::Revived => {
                unit.doubt = !is_undo;
                unit.attempts = 0;
                unit.alternative = false;
                unit.state = if is_undo {
                    UnitState::UndoReady
                } else {
                    UnitState::Ready
                };
            }
            // By hand: somebody took the effect back, and says so.
            Kind::Supplied if is_undo => unit.state = UnitState::Undone,
            Kind::Supplied => self.done(key, record.payload.clone()),
            Kind::LeftOut if is_undo => {
                unit.state = UnitState::Clean;
                self.left = true;
            }
            Kind::LeftOut if node.pivot => {
                unit.state = UnitState::Failed(Class::Rejected);
                let why = record.note.as_deref().unwrap_or_default();
                self.fail(key.node, format!("{}: {why}", node.name));
            }
            Kind::LeftOut => self.leave_out(key),
            _ => {}
        }
    }
}
