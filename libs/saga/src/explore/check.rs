//! The promises, checked against what ran and what was written.

use std::collections::{HashMap, HashSet};

use super::script::{Event, Run};
use crate::definition::plan::{Node, OnStuck, Plan, Work};
use crate::{Kind, OnFailure, Status};

/// What happened, with its place in time.
struct Story<'a> {
    plan: &'a Plan,
    events: &'a [Event],
}

/// A step, or an item of a fan-out.
type Unit<'a> = (&'a str, u32);

/// Every promise that was broken.
pub(super) fn check(plan: &Plan, status: Status, events: &[Event]) -> Vec<String> {
    let story = Story { plan, events };
    let mut broken = Vec::new();
    broken.extend(story.keys());
    broken.extend(story.starts_after_predecessors());
    broken.extend(story.undo_order());
    broken.extend(story.pivot());
    broken.extend(story.strategy(status));
    broken.extend(story.only_the_living());
    broken.extend(story.done_is_done());
    match status {
        Status::Completed => broken.extend(story.all_done()),
        Status::RolledBack => broken.extend(story.all_undone()),
        Status::Failed => broken.push("it ended as failed, which nobody ordered".to_owned()),
        Status::Parked => broken.push("it stayed parked although it was healed".to_owned()),
        Status::Pending | Status::Executing | Status::ForwardRecovery | Status::Compensating => {}
    }
    broken
}

impl<'a> Story<'a> {
    fn ran(&self) -> impl Iterator<Item = (usize, &'a Run)> {
        self.events
            .iter()
            .enumerate()
            .filter_map(|(at, event)| match event {
                Event::Ran(run) => Some((at, run)),
                Event::Returned(..) | Event::Written(_) | Event::Died => None,
            })
    }

    fn returned_ok(&self) -> impl Iterator<Item = (usize, &'a Run)> {
        self.events
            .iter()
            .enumerate()
            .filter_map(|(at, event)| match event {
                Event::Returned(run, true) => Some((at, run)),
                Event::Returned(_, false) | Event::Ran(_) | Event::Written(_) | Event::Died => None,
            })
    }

    /// Where a record of one of these kinds of a step is first on disk.
    fn written(&self, step: &str, kinds: &[Kind]) -> Option<usize> {
        self.events.iter().position(|event| match event {
            Event::Written(record) => *record.step == *step && kinds.contains(&record.kind),
            Event::Ran(_) | Event::Returned(..) | Event::Died => false,
        })
    }

    /// One key for each unit and direction, in all attempts and processes, and no two share one.
    fn keys(&self) -> Vec<String> {
        let mut by_unit: HashMap<(Unit<'_>, bool), &str> = HashMap::new();
        let mut owners: HashMap<&str, (Unit<'_>, bool)> = HashMap::new();
        let mut broken = Vec::new();
        for (_, run) in self.ran() {
            let unit = ((run.step.as_str(), run.item), run.undoing);
            if *by_unit.entry(unit).or_insert(&run.key) != run.key {
                broken.push(format!("the key of {unit:?} changed"));
            }
            if *owners.entry(&run.key).or_insert(unit) != unit {
                broken.push(format!("two units have the key {}", run.key));
            }
        }
        broken
    }

    /// A step runs only when everything before it is on disk.
    fn starts_after_predecessors(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let done = [Kind::Done, Kind::Skipped, Kind::Supplied];
        // After the pivot a step that failed may have a value all the same.
        let settled = [Kind::Done, Kind::Skipped, Kind::Supplied, Kind::Failed];
        for (at, run) in self.ran().filter(|(_, run)| !run.undoing) {
            for pred in self.preds(&run.step) {
                // An empty fan-out leaves no record.
                let is_fan_out = self.node(pred).is_some_and(|it| it.width.is_some());
                let is_late = self.node(pred).is_some_and(|it| it.after_pivot);
                let before = self.written(pred, if is_late { &settled } else { &done });
                if before.is_none_or(|before| before > at) && !is_fan_out {
                    broken.push(format!("{} ran before {pred} was written", run.step));
                }
            }
        }
        broken
    }

    fn node(&self, step: &str) -> Option<&Node> {
        self.plan.nodes.get(self.plan.find(step)?)
    }

    fn preds(&self, step: &str) -> Vec<&str> {
        let preds = self.node(step).map_or(&[][..], |it| &it.preds);
        let name = |at: &usize| self.plan.nodes.get(*at).map(|it| &*it.name);
        preds.iter().filter_map(name).collect()
    }

    fn descendants(&self, step: &str) -> HashSet<&str> {
        let Some(node) = self.plan.find(step) else {
            return HashSet::new();
        };
        let all = self.plan.downstream(node).into_iter();
        all.filter(|at| *at != node)
            .filter_map(|at| self.plan.nodes.get(at).map(|it| &*it.name))
            .collect()
    }

    /// Nothing is undone before what came after it, as far as that had an effect and an undo; and
    /// nothing runs forward once undoing has begun.
    fn undo_order(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let Some(first_undo) = self.ran().find(|(_, run)| run.undoing).map(|(at, _)| at) else {
            return broken;
        };
        for (at, run) in self.ran().filter(|(_, run)| !run.undoing) {
            if at > first_undo {
                broken.push(format!("{} ran after undoing had begun", run.step));
            }
        }
        if self.plan.on_stuck == OnStuck::BestEffort {
            return broken;
        }
        for (at, run) in self.ran().filter(|(_, run)| run.undoing) {
            let later = self.descendants(&run.step);
            for unit in self.effects().filter(|unit| later.contains(unit.0)) {
                if self.undone_at(unit).is_none_or(|undone| undone > at) {
                    broken.push(format!("{} was undone before {unit:?}", run.step));
                }
            }
        }
        broken
    }

    /// Units that had an effect which has to be taken back.
    fn effects(&self) -> impl Iterator<Item = Unit<'a>> + '_ {
        let mut seen = HashSet::new();
        self.returned_ok()
            .filter(|(_, run)| !run.undoing)
            .map(|(_, run)| (run.step.as_str(), run.item))
            .filter(|unit| self.node(unit.0).is_some_and(|it| it.is_undoable()))
            .filter(|unit| self.is_kept(unit.0))
            .filter(move |unit| seen.insert(*unit))
    }

    /// A transaction has an effect if and only if it has a record.
    fn is_kept(&self, step: &str) -> bool {
        let in_tx = |it: &Node| matches!(it.work, Work::InTx(_));
        !self.node(step).is_some_and(in_tx) || self.written(step, &[Kind::Done]).is_some()
    }

    /// Where the undo of a unit first succeeded.
    fn undone_at(&self, unit: Unit<'_>) -> Option<usize> {
        self.returned_ok()
            .find(|(_, run)| run.undoing && (run.step.as_str(), run.item) == unit)
            .map(|(at, _)| at)
    }

    /// Nothing is undone once a pivot is on disk.
    fn pivot(&self) -> Vec<String> {
        let pivots = self.plan.nodes.iter().filter(|it| it.pivot);
        let done = [Kind::Done, Kind::Supplied];
        let reached = pivots.filter_map(|it| self.written(&it.name, &done)).min();
        let Some(reached) = reached else {
            return Vec::new();
        };
        let late = self.ran().filter(|(at, run)| run.undoing && *at > reached);
        late.map(|(_, run)| format!("{} was undone after the pivot", run.step))
            .collect()
    }

    /// The table of the strategies: after a failure is on disk, only a saga that waits for all
    /// runs anything forward; and that one leaves nothing out that does not depend on a failure.
    fn strategy(&self, status: Status) -> Vec<String> {
        let failures = self
            .events
            .iter()
            .enumerate()
            .filter_map(|(at, event)| match event {
                Event::Written(record) if record.kind == Kind::Failed => Some((at, &*record.step)),
                Event::Written(_) | Event::Ran(_) | Event::Returned(..) | Event::Died => None,
            });
        // A pivot that failed may be in doubt, and is tried again when an operator says so.
        let failures: Vec<(usize, &str)> = failures
            .filter(|(_, step)| {
                self.node(step)
                    .is_some_and(|it| !it.after_pivot && !it.pivot)
            })
            .collect();
        let Some((first, _)) = failures.first() else {
            return Vec::new();
        };
        if self.plan.on_failure != OnFailure::WaitAll {
            // Steps of a child go by the child's own failures.
            let is_own = |run: &Run| self.node(&run.step).is_some();
            let late = self
                .ran()
                .filter(|(at, run)| at > first && !run.undoing && is_own(run));
            return late
                .map(|(_, run)| format!("{} began after a failure was known", run.step))
                .collect();
        }
        let blocked: HashSet<&str> = failures
            .iter()
            .flat_map(|(_, step)| self.descendants(step))
            .collect();
        let ends = [Kind::Done, Kind::Skipped, Kind::Failed];
        let left_out = self.plan.nodes.iter().filter(|node| {
            let has_end = self.written(&node.name, &ends).is_some();
            !blocked.contains(&*node.name) && !has_end && node.width.is_none()
        });
        left_out
            .filter(|_| status == Status::RolledBack)
            .map(|node| format!("{} was left out although all are waited for", node.name))
            .collect()
    }

    /// A dead process runs nothing.
    fn only_the_living(&self) -> Vec<String> {
        let mut died = 0;
        let mut broken = Vec::new();
        for event in self.events {
            match event {
                Event::Died => died += 1,
                Event::Ran(run) if run.process < died => {
                    broken.push(format!("{} ran in a dead process", run.step));
                }
                Event::Ran(_) | Event::Returned(..) | Event::Written(_) => {}
            }
        }
        broken
    }

    /// What is recorded as done, or undone, is not run again.
    fn done_is_done(&self) -> Vec<String> {
        let mut done: HashSet<(Unit<'_>, bool)> = HashSet::new();
        let mut broken = Vec::new();
        for event in self.events {
            match event {
                Event::Written(record) => {
                    let unit = (&*record.step, record.item);
                    match record.kind {
                        Kind::Done => drop(done.insert((unit, false))),
                        Kind::Undone => drop(done.insert((unit, true))),
                        _ => {}
                    }
                }
                Event::Ran(run) => {
                    let unit = (run.step.as_str(), run.item);
                    if done.contains(&(unit, run.undoing)) {
                        broken.push(format!("{unit:?} ran again after it was recorded"));
                    }
                }
                Event::Returned(..) | Event::Died => {}
            }
        }
        broken
    }

    /// A completed saga has undone nothing.
    fn all_done(&self) -> Vec<String> {
        let undone = self.ran().filter(|(_, run)| run.undoing);
        undone
            .map(|(_, run)| format!("it completed, and {} was undone", run.step))
            .collect()
    }

    /// A saga that was rolled back has taken back every effect, after its last run.
    fn all_undone(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for unit in self.effects() {
            let last = self
                .ran()
                .filter(|(_, run)| !run.undoing && (run.step.as_str(), run.item) == unit)
                .map(|(at, _)| at)
                .last();
            if self.undone_at(unit) < last || self.undone_at(unit).is_none() {
                broken.push(format!("the effect of {unit:?} was never taken back"));
            }
        }
        broken
    }
}
