//! What an attempt's end means: the record that it leaves.

use std::sync::Arc;

use bytes::Bytes;
use ratebox_kit::Timestamp;

use super::{Machine, Phase, Unit, UnitKey, UnitState};
use crate::time::after;
use crate::{Class, Kind, Record, StepError, StepResult};

/// An attempt that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) number: u32,
    pub(crate) undoing: bool,
    /// Of the step's alternative.
    pub(crate) alternative: bool,
}

/// When an attempt ended, how long it took, and a number from `0.0..1.0` for the next wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) at: Timestamp,
    pub(crate) took_us: u64,
    pub(crate) draw: f64,
}

impl Machine {
    /// What the unit's next attempt would be.
    pub(crate) fn next_attempt(&self, key: UnitKey) -> Option<Attempt> {
        let unit = self.unit(key)?;
        let undoing = match unit.state {
            UnitState::UndoReady | UnitState::UndoBackoff(_) => true,
            UnitState::Ready
            | UnitState::Backoff(_)
            | UnitState::Armed(_)
            | UnitState::Done
            | UnitState::Failed(_)
            | UnitState::Stuck(_)
            | UnitState::Undone
            | UnitState::UndoStuck
            | UnitState::Clean => false,
        };
        Some(Attempt {
            number: unit.attempts + 1,
            undoing,
            alternative: unit.alternative,
        })
    }

    /// Notes that an attempt begins in this process.
    pub(crate) fn begin(&mut self, key: UnitKey) -> Option<Attempt> {
        let next = self.next_attempt(key)?;
        let unit = self.unit_mut(key)?;
        unit.running = true;
        unit.attempts = next.number;
        // While it runs it neither waits nor is due.
        unit.state = if next.undoing {
            UnitState::UndoReady
        } else {
            UnitState::Ready
        };
        Some(next)
    }

    /// The result of a step that is to be undone, if there is one.
    pub(crate) fn result(&self, key: UnitKey) -> Option<Bytes> {
        self.unit(key)?.result.clone()
    }

    /// A record about a unit, numbered on.
    pub(crate) fn record(&self, key: UnitKey, kind: Kind, at: Timestamp) -> Record {
        let name = self.plan.nodes.get(key.node).map(|it| Arc::clone(&it.name));
        Record {
            seq: self.next_seq,
            step: name.unwrap_or_else(|| "".into()),
            item: u32::try_from(key.item).unwrap_or(u32::MAX),
            kind,
            class: None,
            attempt: self.unit(key).map_or(0, |unit| unit.attempts),
            at,
            took_us: 0,
            due: None,
            payload: None,
            note: None,
            who: None,
        }
    }

    /// The record of a step's attempt.
    pub(crate) fn judge(&self, key: UnitKey, outcome: StepResult<Bytes>, ended: Ended) -> Record {
        let mut record = self.record(key, Kind::Done, ended.at);
        record.took_us = ended.took_us;
        let error = match outcome {
            Ok(result) => {
                record.payload = Some(result);
                return record;
            }
            Err(error) => error,
        };
        record.note = Some(error.what().to_owned());
        let Some(unit) = self.unit(key) else {
            return record;
        };
        match self.next_try(key, &error, ended) {
            Some(due) => {
                record.kind = Kind::Retry;
                record.class = Some(worst(unit, error.class()));
                record.due = Some(due);
            }
            None => {
                record.kind = Kind::Failed;
                record.class = Some(worst(unit, error.class()));
            }
        }
        record
    }

    /// When a failed step is tried again, if it is.
    fn next_try(&self, key: UnitKey, error: &StepError, ended: Ended) -> Option<Timestamp> {
        let (node, unit) = (self.plan.nodes.get(key.node)?, self.unit(key)?);
        let may = error.class() != Class::Rejected && self.phase == Phase::Forward;
        let wait = may.then(|| node.retry.next(unit.attempts, ended.draw))??;
        Some(after(ended.at, wait.max(error.wait().unwrap_or_default())))
    }

    /// The record of an undo's attempt.
    pub(crate) fn judge_undo(&self, key: UnitKey, outcome: StepResult, ended: Ended) -> Record {
        let mut record = self.record(key, Kind::Undone, ended.at);
        record.took_us = ended.took_us;
        let Err(error) = outcome else {
            return record;
        };
        record.note = Some(error.what().to_owned());
        record.class = Some(error.class());
        let retry = self.plan.nodes.get(key.node).map(|it| it.undo_retry);
        let wait = retry
            .filter(|_| error.class() != Class::Rejected)
            .and_then(|it| it.next(record.attempt, ended.draw));
        match wait {
            Some(wait) => {
                let wait = wait.max(error.wait().unwrap_or_default());
                record.kind = Kind::UndoRetry;
                record.due = Some(after(ended.at, wait));
            }
            None => record.kind = Kind::UndoFailed,
        }
        record
    }
}

/// What is known of a unit's effect after its last attempt, given the earlier ones.
fn worst(unit: &Unit, class: Class) -> Class {
    if unit.doubt { Class::Unknown } else { class }
}
