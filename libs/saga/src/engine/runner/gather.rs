//! Turns what happened into records: attempts that ended, letters, times that have come, and
//! steps that are over as soon as they begin.

use bytes::Bytes;
use ratebox_kit::Timestamp;

use super::super::attempt::Done;
use super::{Finished, Runner, nothing};
use crate::definition::plan::{SignalValue, Work};
use crate::journal::store::Letter;
use crate::machine::{Deed, Ended, Phase, UnitKey, UnitState};
use crate::time::after;
use crate::{Class, Kind, Record, StepError, StepResult};

/// The verb of a letter that carries a signal; the others are kinds of deeds.
pub(crate) const SIGNAL: &str = "signal";

/// Reads a signal's value.
type Accept = fn(&SignalValue<'_>) -> StepResult<Bytes>;

impl Runner {
    /// Adds records of everything that happened, and lets the machine take them in.
    pub(super) fn gather(&mut self, records: &mut Vec<Record>) {
        self.drain();
        let count = match self.writes_one_by_one() {
            true => self.finished.len().min(1),
            false => self.finished.len(),
        };
        for finished in self.finished.drain(..count).collect::<Vec<_>>() {
            self.ended(finished, records);
        }
        self.read_letters(records);
        self.expire(records);
        while let Some(record) = self.at_once() {
            self.take(record, records);
        }
        self.stop_running();
    }

    fn take(&mut self, record: Record, records: &mut Vec<Record>) {
        self.machine.apply(&record);
        records.push(record);
    }

    fn ended(&mut self, mut finished: Finished, records: &mut Vec<Record>) {
        self.refuse(&mut finished, StepError::unknown);
        let record = self.judge(finished);
        self.take(record, records);
    }

    /// The record of an attempt that ended; its messages are kept for the same entry.
    pub(super) fn judge(&mut self, finished: Finished) -> Record {
        self.cancels.remove(&finished.key);
        let mut ended = self.just_now();
        ended.took_us = u64::try_from(finished.took.as_micros()).unwrap_or(u64::MAX);
        let record = match finished.done {
            Done::Step(outcome) => self.machine.judge(finished.key, outcome, ended),
            Done::Undo(outcome) => self.machine.judge_undo(finished.key, outcome, ended),
        };
        if matches!(record.kind, Kind::Done | Kind::Undone) {
            self.sends.extend(finished.sends);
        }
        record
    }

    fn read_letters(&mut self, records: &mut Vec<Record>) {
        for letter in self.live.take_letters() {
            if self.seen.insert(letter.id) {
                self.letters.push(letter);
            }
        }
        for letter in std::mem::take(&mut self.letters) {
            let answer = if letter.verb == SIGNAL {
                self.signalled(&letter)
            } else {
                Some(self.ordered(&letter))
            };
            // A signal that nobody waits for yet is kept.
            let Some(record) = answer else {
                self.letters.push(letter);
                continue;
            };
            self.answered.push(letter.id);
            if let Some(record) = record {
                self.take(record, records);
            }
        }
    }

    /// What a signal means; `None` while nobody waits for it.
    fn signalled(&mut self, letter: &Letter) -> Option<Option<Record>> {
        let (key, accept) = self.waiting_for(&letter.subject)?;
        let empty = nothing();
        let outcome = accept(&SignalValue {
            payload: letter.payload.as_ref().unwrap_or(&empty),
            who: &letter.who,
            why: &letter.why,
        });
        let now = self.just_now();
        let mut record = self.machine.judge(key, outcome, now);
        record.who = Some(crate::record::note(&letter.who));
        Some(Some(record))
    }

    fn waiting_for(&self, name: &str) -> Option<(UnitKey, Accept)> {
        if self.machine.phase() != Phase::Forward {
            return None;
        }
        let mut nodes = self.plan.nodes.iter().enumerate();
        nodes.find_map(|(node, it)| {
            let Work::Signal(signal) = &it.work else {
                return None;
            };
            let mut units = self.machine.units(node).iter();
            let item = units.position(|unit| matches!(unit.state, UnitState::Armed(_)))?;
            (*signal.name == *name).then_some((UnitKey { node, item }, signal.accept))
        })
    }

    /// What an operator's order means; nothing when it came too late.
    fn ordered(&mut self, letter: &Letter) -> Option<Record> {
        let deed = Deed {
            kind: Kind::parse(&letter.verb)?,
            step: letter.subject.as_str().into(),
            payload: letter.payload.clone(),
            who: Some(letter.who.clone()),
            why: letter.why.clone(),
        };
        match self.machine.allows(&deed) {
            Ok(()) => Some(self.machine.record_of(deed, self.engine.now())),
            Err(why) => {
                tracing::warn!(saga.id = %self.id, verb = letter.verb, why, "an order came too late");
                None
            }
        }
    }

    /// The whole saga took too long.
    fn expire(&mut self, records: &mut Vec<Record>) {
        let now = self.engine.now();
        // A pivot that runs may be done: it is waited for.
        if self.deadline().is_none_or(|deadline| deadline > now) || self.is_at_pivot() {
            return;
        }
        let deed = Deed {
            kind: Kind::Cancelled,
            step: "".into(),
            payload: None,
            who: None,
            why: "its deadline has passed".to_owned(),
        };
        if self.machine.allows(&deed).is_ok() {
            let record = self.machine.record_of(deed, now);
            self.take(record, records);
        }
    }

    fn is_at_pivot(&self) -> bool {
        let mut cancels = self.cancels.keys();
        cancels.any(|key| self.is_pivot(*key))
    }

    fn is_pivot(&self, key: UnitKey) -> bool {
        self.plan.nodes.get(key.node).is_some_and(|it| it.pivot)
    }

    /// A record that needs no attempt: a condition, a timer, a time that has come.
    fn at_once(&mut self) -> Option<Record> {
        let now = self.engine.now();
        let startable = self.machine.startable(now);
        startable
            .into_iter()
            .find_map(|key| self.without_attempt(key, now))
    }

    fn without_attempt(&mut self, key: UnitKey, now: Timestamp) -> Option<Record> {
        let plan = std::sync::Arc::clone(&self.plan);
        let node = plan.nodes.get(key.node)?;
        let unit = self.machine.units(key.node).get(key.item)?;
        let (state, attempts) = (unit.state, unit.attempts());
        match state {
            UnitState::UndoReady | UnitState::UndoBackoff(_) => return None,
            UnitState::Armed(_) => return Some(self.time_has_come(key, now)),
            _ => {}
        }
        if attempts == 0
            && let Some(when) = &node.when
        {
            match when(&self.machine.args(key)) {
                Ok(true) => {}
                Ok(false) => return Some(self.machine.record(key, Kind::Skipped, now)),
                Err(error) => {
                    let now = self.just_now();
                    return Some(self.machine.judge(key, Err(error), now));
                }
            }
        }
        let due = match &node.work {
            Work::Sleep(time) => Some(after(now, *time)),
            Work::Signal(signal) => signal.deadline.map(|wait| after(now, wait)),
            Work::Run(_) | Work::InTx(_) | Work::Child(_) => {
                let is_new = node.record_start && self.announced.insert((key, attempts + 1));
                return is_new.then(|| self.machine.record(key, Kind::Started, now));
            }
        };
        let mut record = self.machine.record(key, Kind::Armed, now);
        record.due = due;
        Some(record)
    }

    fn time_has_come(&mut self, key: UnitKey, now: Timestamp) -> Record {
        let work = self.plan.nodes.get(key.node).map(|it| &it.work);
        if matches!(work, Some(Work::Sleep(_))) {
            let mut record = self.machine.record(key, Kind::Done, now);
            record.payload = Some(nothing());
            return record;
        }
        let mut record = self.machine.record(key, Kind::Failed, now);
        record.class = Some(Class::Rejected);
        record.note = Some("nobody said anything in time".to_owned());
        record
    }

    /// Tells running attempts to end, when it is time to. Never the pivot: it has to tell whether
    /// it is done.
    fn stop_running(&mut self) {
        if self.machine.phase() != Phase::Stopping {
            self.cancel_at = None;
            return;
        }
        let now = self.engine.now();
        let grace = self.grace();
        let at = *self.cancel_at.get_or_insert_with(|| after(now, grace));
        if at <= now {
            let cancels = self.cancels.iter();
            cancels
                .filter(|(key, _)| !self.is_pivot(**key))
                .for_each(|(_, cancel)| cancel.cancel());
        }
    }

    fn just_now(&mut self) -> Ended {
        Ended {
            at: self.engine.now(),
            took_us: 0,
            draw: self.rng.f64(),
        }
    }
}

/// A step that the journal and the definition do not agree on.
pub(super) fn unreadable() -> StepError {
    StepError::rejected("the step is not what the journal says")
}
