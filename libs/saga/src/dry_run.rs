//! What a saga would take if nothing failed: computed, nothing runs.

use std::time::Duration;

use crate::Saga;
use crate::definition::plan::{Node, Plan, Work};

/// What a definition takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRun {
    /// Steps by the number of steps that must be done before them.
    pub layers: Vec<Vec<String>>,
    /// The steps that decide how long the saga takes, in order.
    pub critical_path: Vec<String>,
    /// How long it takes.
    pub takes: Duration,
    /// How long all steps take one after the other.
    pub work: Duration,
    /// Most steps that run at the same time.
    pub width: usize,
}

/// When a step runs.
#[derive(Clone, Copy, Default)]
struct Span {
    begin: Duration,
    end: Duration,
    /// The predecessor that it waited for.
    after: Option<usize>,
    layer: usize,
}

impl<I, O> Saga<I, O> {
    /// What the saga takes if each step takes what `takes` says; `None` is read as no time. Sleeps
    /// take what they are declared with.
    pub fn dry_run(&self, takes: impl Fn(&str) -> Option<Duration>) -> DryRun {
        of(&self.plan(), takes)
    }
}

pub(crate) fn of(plan: &Plan, takes: impl Fn(&str) -> Option<Duration>) -> DryRun {
    let time = |node: &Node| match &node.work {
        Work::Sleep(time) => *time,
        Work::Run(_) | Work::InTx(_) | Work::Signal(_) | Work::Child(_) => {
            takes(&node.name).unwrap_or_default()
        }
    };
    let times: Vec<Duration> = plan.nodes.iter().map(time).collect();
    summed(plan, &times, &spans(plan, &times))
}

/// When each step runs, each as early as it can.
fn spans(plan: &Plan, times: &[Duration]) -> Vec<Span> {
    let mut spans: Vec<Option<Span>> = vec![None; plan.nodes.len()];
    // Every round settles at least one node: the graph has no cycles.
    while spans.iter().any(Option::is_none) {
        for index in 0..plan.nodes.len() {
            let known = |at: &usize| spans.get(*at).copied().flatten();
            let preds = plan.nodes.get(index).map_or(&[][..], |it| &it.preds);
            if !preds.iter().all(|at| known(at).is_some()) {
                continue;
            }
            let ends = preds
                .iter()
                .filter_map(|at| known(at).map(|it| (it.end, *at)));
            let last = ends.max();
            let layer = preds.iter().filter_map(known).map(|it| it.layer + 1).max();
            let begin = last.map_or(Duration::ZERO, |(end, _)| end);
            let span = Span {
                begin,
                end: begin + times.get(index).copied().unwrap_or_default(),
                after: last.map(|(_, at)| at),
                layer: layer.unwrap_or(0),
            };
            if let Some(slot) = spans.get_mut(index) {
                *slot = Some(span);
            }
        }
    }
    spans.into_iter().flatten().collect()
}

fn summed(plan: &Plan, times: &[Duration], spans: &[Span]) -> DryRun {
    let name = |at: usize| plan.nodes.get(at).map(|it| it.name.to_string());
    let depth = spans.iter().map(|it| it.layer + 1).max().unwrap_or(0);
    let in_layer = |layer: usize| {
        let all = spans
            .iter()
            .enumerate()
            .filter(move |(_, it)| it.layer == layer);
        all.filter_map(|(at, _)| name(at)).collect()
    };
    let mut at = (0..spans.len()).max_by_key(|at| spans.get(*at).map(|it| (it.end, it.layer)));
    let takes = at.and_then(|at| spans.get(at)).map(|it| it.end);
    let mut critical_path = Vec::new();
    while let Some(step) = at {
        critical_path.extend(name(step));
        at = spans.get(step).and_then(|it| it.after);
    }
    critical_path.reverse();
    // A step that takes no time is there at its moment.
    let runs_at = |moment: Duration, it: &Span| {
        it.begin <= moment && (moment < it.end || it.begin == it.end && it.begin == moment)
    };
    let width = spans.iter().map(|one| {
        let beside = spans
            .iter()
            .filter(|it| runs_at(one.begin, it) && it.layer == one.layer);
        let longer = spans
            .iter()
            .filter(|it| it.begin < one.begin && one.begin < it.end);
        beside.count() + longer.filter(|it| it.layer != one.layer).count()
    });
    DryRun {
        layers: (0..depth).map(in_layer).collect(),
        critical_path,
        takes: takes.unwrap_or_default(),
        work: times.iter().sum(),
        width: width.max().unwrap_or(0),
    }
}
