//! The way forward: which steps can start, and what their outcomes mean.

use bytes::Bytes;
use ratebox_kit::Timestamp;

use super::{Machine, Phase, Stage, Unit, UnitKey, UnitState};
use crate::definition::plan::{Args, WayOn, Work};
use crate::strategy::{Fate, Situation};
use crate::{Class, Kind, Record};

impl Machine {
    /// Makes units of every node whose predecessors are settled.
    pub(super) fn activate(&mut self) {
        // A node that is left without units is done at once and may let others start.
        while let Some(index) = self.next_to_activate() {
            let outputs = self.inputs(index);
            let items = match self.plan.nodes.get(index) {
                Some(node) => node.items(&outputs).unwrap_or_else(|_| vec![None]),
                None => return,
            };
            let is_empty = items.is_empty();
            if let Some(state) = self.nodes.get_mut(index) {
                state.units = items.into_iter().map(Unit::new).collect();
                state.stage = Stage::Active;
            }
            self.arm_without_end(index);
            if is_empty {
                self.settle(index, Stage::Done);
            }
        }
    }

    fn next_to_activate(&self) -> Option<usize> {
        let stop = self.cause.is_some() && !self.committed;
        let is_next = |state: &super::NodeState| {
            let situation = if state.blocked {
                Situation::Downstream
            } else {
                Situation::NotStarted
            };
            let may = match self.plan.on_failure.fate(situation) {
                Fate::GoesOn => true,
                Fate::NeverStarts | Fate::GivenUp | Fate::Cancelled(_) => false,
            };
            state.stage == Stage::Waiting && state.waits == 0 && (!stop || may)
        };
        self.nodes.iter().position(is_next)
    }

    /// A signal without a deadline waits from the start; nothing need be recorded.
    fn arm_without_end(&mut self, index: usize) {
        let Some(node) = self.plan.nodes.get(index) else {
            return;
        };
        let waits = match &node.work {
            Work::Signal(signal) => signal.deadline.is_none() && node.when.is_none(),
            Work::Run(_) | Work::InTx(_) | Work::Sleep(_) | Work::Child(_) => false,
        };
        if waits && let Some(state) = self.nodes.get_mut(index) {
            for unit in &mut state.units {
                unit.state = UnitState::Armed(Timestamp::MAX);
            }
        }
    }

    /// What a node reads.
    fn inputs(&self, index: usize) -> Vec<crate::definition::values::Output> {
        let data = self
            .plan
            .nodes
            .get(index)
            .map_or(&[][..], |node| &node.data);
        data.iter().map(|of| self.output(*of)).collect()
    }

    /// What a unit's function gets.
    pub(crate) fn args(&self, key: UnitKey) -> Args {
        Args {
            outputs: self.inputs(key.node).into(),
            item: self.unit(key).and_then(|unit| unit.item.clone()),
        }
    }

    /// A step is settled: those after it wait for one less.
    fn settle(&mut self, index: usize, stage: Stage) {
        let Some(state) = self.nodes.get_mut(index) else {
            return;
        };
        state.stage = stage;
        let plan = std::sync::Arc::clone(&self.plan);
        let Some(node) = plan.nodes.get(index) else {
            return;
        };
        if node.pivot && stage == Stage::Done {
            self.committed = true;
            // Whatever was to stop the saga came too late.
            if self.phase == Phase::Stopping {
                self.phase = Phase::Forward;
            }
            self.cause = None;
        }
        for succ in &node.succs {
            if let Some(state) = self.nodes.get_mut(*succ) {
                state.waits = state.waits.saturating_sub(1);
            }
        }
    }

    pub(super) fn apply_forward(&mut self, record: &Record) {
        let Some(key) = self.key_of(record) else {
            return;
        };
        let Some(unit) = self.unit_mut(key) else {
            return;
        };
        unit.attempts = unit.attempts.max(record.attempt);
        match record.kind {
            Kind::Done => self.done(key, record.payload.clone()),
            Kind::Skipped => {
                unit.state = UnitState::Clean;
                self.settle(key.node, Stage::Skipped);
            }
            Kind::Retry => self.retried(key, record),
            Kind::Armed => unit.state = UnitState::Armed(record.due.unwrap_or(Timestamp::MAX)),
            Kind::Failed => self.failed(key, record),
            Kind::Started
            | Kind::Undone
            | Kind::UndoRetry
            | Kind::UndoFailed
            | Kind::Cancelled
            | Kind::Parked
            | Kind::Revived
            | Kind::LeftOut
            | Kind::Supplied
            | Kind::Resumed
            | Kind::Abandoned => {}
        }
    }

    pub(super) fn done(&mut self, key: UnitKey, result: Option<Bytes>) {
        let Some(state) = self.nodes.get_mut(key.node) else {
            return;
        };
        if let Some(unit) = state.units.get_mut(key.item) {
            unit.state = UnitState::Done;
            unit.running = false;
            unit.doubt = false;
            unit.result = result;
        }
        let is_done = state.units.iter().all(|it| it.state == UnitState::Done);
        if is_done && state.stage == Stage::Active {
            self.settle(key.node, Stage::Done);
        }
    }

    /// An operator leaves a step out.
    pub(super) fn leave_out(&mut self, key: UnitKey) {
        if let Some(unit) = self.unit_mut(key) {
            unit.state = UnitState::Clean;
        }
        let open = self.units(key.node).iter().any(Unit::is_moving);
        if !open {
            self.settle(key.node, Stage::Skipped);
        }
    }

    fn retried(&mut self, key: UnitKey, record: &Record) {
        self.struggle(key);
        let Some(unit) = self.unit_mut(key) else {
            return;
        };
        unit.running = false;
        unit.doubt |= record.class == Some(Class::Unknown);
        if let Some(due) = record.due {
            unit.state = UnitState::Backoff(due);
        }
        // Whoever waits when another step has failed is given up; this one failed just now.
        if self.phase == Phase::Stopping {
            self.give_up(key);
        }
    }

    fn struggle(&mut self, key: UnitKey) {
        let node = self.plan.nodes.get(key.node);
        self.struggled |= node.is_some_and(|it| it.after_pivot);
    }

    fn failed(&mut self, key: UnitKey, record: &Record) {
        self.struggle(key);
        let class = record.class.unwrap_or(Class::Unknown);
        let plan = std::sync::Arc::clone(&self.plan);
        let Some(node) = plan.nodes.get(key.node) else {
            return;
        };
        let committed = self.committed;
        let Some(unit) = self.unit_mut(key) else {
            return;
        };
        unit.running = false;
        unit.doubt |= class == Class::Unknown;
        let class = if unit.doubt { Class::Unknown } else { class };
        if committed {
            match &node.way_on {
                WayOn::Value(value) => return self.done(key, Some(value.clone())),
                WayOn::Alternative(_) if !unit.alternative => {
                    unit.alternative = true;
                    unit.attempts = 0;
                    unit.state = UnitState::Ready;
                }
                WayOn::Alternative(_) | WayOn::Park => unit.state = UnitState::Stuck(class),
            }
            return;
        }
        // Nobody knows whether there is a way back: a person must find out.
        if node.pivot && class == Class::Unknown {
            unit.state = UnitState::Stuck(class);
            return;
        }
        unit.state = UnitState::Failed(class);
        let note = record.note.as_deref().unwrap_or_default();
        self.fail(key.node, format!("{}: {note}", node.name));
    }

    /// A step has failed: what becomes of the others.
    pub(super) fn fail(&mut self, node: usize, cause: String) {
        self.cause.get_or_insert(cause);
        self.block(node);
        match self.plan.on_failure.fate(Situation::Waiting) {
            Fate::GoesOn => {}
            Fate::GivenUp | Fate::NeverStarts | Fate::Cancelled(_) => self.stop(),
        }
    }

    fn block(&mut self, node: usize) {
        let plan = std::sync::Arc::clone(&self.plan);
        let mut todo = vec![node];
        while let Some(at) = todo.pop() {
            let succs = plan.nodes.get(at).map_or(&[][..], |it| &it.succs);
            for succ in succs {
                if let Some(state) = self.nodes.get_mut(*succ).filter(|it| !it.blocked) {
                    state.blocked = true;
                    todo.push(*succ);
                }
            }
        }
    }

    /// Starts nothing new, gives up what waits. What runs is the engine's to cancel.
    pub(super) fn stop(&mut self) {
        if self.phase != Phase::Forward {
            return;
        }
        self.phase = Phase::Stopping;
        let keys: Vec<UnitKey> = self.keys().collect();
        for key in keys {
            if !self.may_run_again(key) {
                self.give_up(key);
            }
        }
    }

    /// Who reads a saga back sees a step that was to be tried again before this was known: that
    /// attempt may have run by then, and its record, if there is one, comes later.
    fn may_run_again(&mut self, key: UnitKey) -> bool {
        let (live, at) = (self.live, self.at);
        let Some(unit) = self.unit_mut(key) else {
            return false;
        };
        let was_due = matches!(unit.state, UnitState::Backoff(due) if due <= at);
        if was_due && !live {
            unit.state = UnitState::Ready;
        }
        was_due && !live
    }

    fn give_up(&mut self, key: UnitKey) {
        let live = self.live;
        let is_pivot = self.is_pivot(key.node);
        let Some(unit) = self.unit_mut(key) else {
            return;
        };
        match unit.state {
            UnitState::Backoff(_) if unit.doubt && is_pivot => {
                unit.state = UnitState::Stuck(Class::Unknown);
            }
            UnitState::Backoff(_) if unit.doubt => unit.state = UnitState::Failed(Class::Unknown),
            UnitState::Backoff(_) => unit.state = UnitState::Failed(Class::Retryable),
            UnitState::Armed(_) => unit.state = UnitState::Clean,
            // Who reads it back cannot know whether it was started.
            UnitState::Ready if live && !unit.running => {
                let class = if unit.doubt {
                    Class::Unknown
                } else {
                    Class::Rejected
                };
                unit.state = UnitState::Failed(class);
            }
            UnitState::Ready
            | UnitState::Done
            | UnitState::Failed(_)
            | UnitState::Stuck(_)
            | UnitState::UndoReady
            | UnitState::UndoBackoff(_)
            | UnitState::Undone
            | UnitState::UndoStuck
            | UnitState::Clean => {}
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = UnitKey> + '_ {
        let units = |(node, state): (usize, &super::NodeState)| {
            let items = state.units.len();
            (0..items).map(move |item| UnitKey { node, item })
        };
        self.nodes.iter().enumerate().flat_map(units)
    }

    /// Units whose next attempt, forward or back, can start now.
    pub(crate) fn startable(&self, now: Timestamp) -> Vec<UnitKey> {
        let mut found = Vec::new();
        if self.parked {
            return found;
        }
        for (node, state) in self.nodes.iter().enumerate() {
            let width = self.plan.nodes.get(node).and_then(|it| it.width);
            let running = state.units.iter().filter(|it| it.running).count();
            let mut free = width.unwrap_or(usize::MAX).saturating_sub(running);
            for (item, unit) in state.units.iter().enumerate() {
                if free == 0 {
                    break;
                }
                let is_open_pivot = unit.doubt && self.is_pivot(node);
                if self.is_startable(unit, now, is_open_pivot) {
                    found.push(UnitKey { node, item });
                    free -= 1;
                }
            }
        }
        found
    }

    /// A pivot in doubt is tried again even when nothing else starts: it has to tell whether it is
    /// done.
    fn is_startable(&self, unit: &Unit, now: Timestamp, is_open_pivot: bool) -> bool {
        let can = match unit.state {
            UnitState::Ready => match self.phase {
                Phase::Forward => true,
                Phase::Stopping => is_open_pivot,
                Phase::Undoing | Phase::Ended(_) => false,
            },
            UnitState::Backoff(due) => self.phase == Phase::Forward && due <= now,
            UnitState::UndoReady => self.phase == Phase::Undoing,
            UnitState::UndoBackoff(due) => self.phase == Phase::Undoing && due <= now,
            UnitState::Armed(due) => self.phase == Phase::Forward && due <= now,
            UnitState::Done
            | UnitState::Failed(_)
            | UnitState::Stuck(_)
            | UnitState::Undone
            | UnitState::UndoStuck
            | UnitState::Clean => false,
        };
        can && !unit.running
    }
}
