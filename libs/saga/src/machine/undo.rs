//! The way back: in reverse order of the graph, branches in parallel, the order carried across
//! steps that have nothing to undo.

use super::{Machine, Phase, UnitState};
use crate::definition::plan::OnStuck;
use crate::{Class, Kind, Record, Status};

impl Machine {
    /// Unwinds every node whose successors are unwound, as far as that goes.
    pub(super) fn unwind(&mut self) {
        while let Some(index) = self.next_to_unwind() {
            self.plan_undo(index);
            if !self.is_unwound(index) {
                continue;
            }
            if let Some(state) = self.nodes.get_mut(index) {
                state.unwound = true;
            }
            let plan = std::sync::Arc::clone(&self.plan);
            let preds = plan.nodes.get(index).map_or(&[][..], |it| &it.preds);
            for pred in preds {
                if let Some(state) = self.nodes.get_mut(*pred) {
                    state.waits_undo = state.waits_undo.saturating_sub(1);
                }
            }
        }
        // A node may be passed over while one of its undos is stuck, or is tried again by then.
        let mut units = self.nodes.iter().flat_map(|node| &node.units);
        let is_open = units.any(|unit| unit.is_moving() || unit.state == UnitState::UndoStuck);
        if self.nodes.iter().all(|node| node.unwound) && !is_open {
            let status = if self.left {
                Status::Failed
            } else {
                Status::RolledBack
            };
            self.phase = Phase::Ended(status);
        }
    }

    /// A node that may be undone, and either has yet to be looked at or is undone by now.
    fn next_to_unwind(&self) -> Option<usize> {
        (0..self.nodes.len()).find(|index| {
            self.nodes.get(*index).is_some_and(|state| {
                let is_fresh = state
                    .units
                    .iter()
                    .any(|it| it.state.is_of_the_way_forward());
                let is_open = state.waits_undo == 0 && !state.unwound;
                is_open && (is_fresh || self.is_unwound(*index))
            })
        })
    }

    /// Decides what of a node is undone.
    fn plan_undo(&mut self, index: usize) {
        let is_undoable = self
            .plan
            .nodes
            .get(index)
            .is_some_and(|it| it.is_undoable());
        let Some(state) = self.nodes.get_mut(index) else {
            return;
        };
        for unit in &mut state.units {
            let may_have_effect = match unit.state {
                UnitState::Done | UnitState::Failed(Class::Unknown) => true,
                UnitState::Ready
                | UnitState::Backoff(_)
                | UnitState::Armed(_)
                | UnitState::Failed(Class::Rejected | Class::Retryable)
                | UnitState::Stuck(_) => false,
                UnitState::UndoReady
                | UnitState::UndoBackoff(_)
                | UnitState::Undone
                | UnitState::UndoStuck
                | UnitState::Clean => continue,
            };
            unit.attempts = 0;
            unit.state = if may_have_effect && is_undoable {
                UnitState::UndoReady
            } else {
                UnitState::Clean
            };
        }
    }

    fn is_unwound(&self, index: usize) -> bool {
        let goes_on = self.plan.on_stuck == OnStuck::BestEffort;
        let is_over = |state: UnitState| match state {
            UnitState::Undone | UnitState::Clean => true,
            UnitState::UndoStuck => goes_on,
            UnitState::Ready
            | UnitState::Backoff(_)
            | UnitState::Armed(_)
            | UnitState::Done
            | UnitState::Failed(_)
            | UnitState::Stuck(_)
            | UnitState::UndoReady
            | UnitState::UndoBackoff(_) => false,
        };
        let units = self.nodes.get(index).map_or(&[][..], |it| &it.units);
        units.iter().all(|unit| is_over(unit.state))
    }

    pub(super) fn apply_undo(&mut self, record: &Record) {
        let Some(unit) = self.key_of(record).and_then(|key| self.unit_mut(key)) else {
            return;
        };
        unit.running = false;
        unit.attempts = unit.attempts.max(record.attempt);
        match (record.kind, record.due) {
            (Kind::Undone, _) => unit.state = UnitState::Undone,
            (Kind::UndoRetry, Some(due)) => unit.state = UnitState::UndoBackoff(due),
            (Kind::UndoFailed, _) => unit.state = UnitState::UndoStuck,
            _ => {}
        }
    }
}

impl UnitState {
    /// Whether the way back has not looked at it.
    fn is_of_the_way_forward(self) -> bool {
        match self {
            Self::Ready
            | Self::Backoff(_)
            | Self::Armed(_)
            | Self::Done
            | Self::Failed(_)
            | Self::Stuck(_) => true,
            Self::UndoReady
            | Self::UndoBackoff(_)
            | Self::Undone
            | Self::UndoStuck
            | Self::Clean => false,
        }
    }
}
