//! What `build` refuses.

use super::after::has_effect;
use super::plan::{Node, WayOn};
use crate::Flaw;

const NAME_CHARS_MAX: usize = 100;

/// Everything that is wrong; marks what comes after a pivot.
pub(crate) fn check(name: &str, nodes: &mut [Node]) -> Vec<Flaw> {
    let mut flaws = names(name, nodes);
    if nodes.is_empty() {
        flaws.push(Flaw::Empty);
        return flaws;
    }
    if let Some(steps) = cycle(nodes) {
        flaws.push(Flaw::Cycle { steps });
        return flaws;
    }
    flaws.extend(disconnected(nodes));
    let pivots: Vec<usize> = (0..nodes.len()).filter(|at| nodes[*at].pivot).collect();
    for pivot in pivots {
        flaws.extend(beside(nodes, pivot));
    }
    let uncertain = nodes
        .iter()
        .filter(|it| it.pivot && (it.when.is_some() || it.width.is_some()));
    flaws.extend(uncertain.map(|it| Flaw::UncertainPivot {
        step: it.name.to_string(),
    }));
    flaws.extend(nodes.iter().flat_map(of_one));
    flaws
}

fn names(name: &str, nodes: &[Node]) -> Vec<Flaw> {
    let is_good = |name: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !name.is_empty() && name.len() <= NAME_CHARS_MAX && name.chars().all(fits)
    };
    let all = std::iter::once(name).chain(nodes.iter().map(|it| &*it.name));
    let bad = all.filter(|name| !is_good(name));
    let mut flaws: Vec<Flaw> = bad
        .map(|name| Flaw::BadName {
            name: name.to_owned(),
        })
        .collect();
    for (index, node) in nodes.iter().enumerate() {
        let first = nodes.iter().position(|it| it.name == node.name);
        if first != Some(index) {
            flaws.push(Flaw::DuplicateName {
                step: node.name.to_string(),
            });
        }
    }
    flaws
}

/// Steps that wait for each other, in order, the first again at the end.
fn cycle(nodes: &[Node]) -> Option<Vec<String>> {
    let mut waiting: Vec<usize> = nodes.iter().map(|it| it.preds.len()).collect();
    let mut free: Vec<usize> = (0..nodes.len()).filter(|at| waiting[*at] == 0).collect();
    while let Some(at) = free.pop() {
        for succ in &nodes[at].succs {
            waiting[*succ] -= 1;
            if waiting[*succ] == 0 {
                free.push(*succ);
            }
        }
    }
    // Whoever still waits has a predecessor that waits; going back comes round.
    let mut at = (0..nodes.len()).find(|at| waiting[*at] > 0)?;
    let mut path = Vec::new();
    while !path.contains(&at) {
        path.push(at);
        at = *nodes[at].preds.iter().find(|pred| waiting[**pred] > 0)?;
    }
    let begin = path.iter().position(|it| *it == at)?;
    let mut round: Vec<usize> = path.split_off(begin);
    round.reverse();
    round.insert(0, at);
    Some(
        round
            .into_iter()
            .map(|at| nodes[at].name.to_string())
            .collect(),
    )
}

fn disconnected(nodes: &[Node]) -> Option<Flaw> {
    let both =
        |node: &Node| -> Vec<usize> { node.preds.iter().chain(&node.succs).copied().collect() };
    let reached = reach(nodes, 0, both);
    let lonely = reached.iter().position(|it| !it)?;
    Some(Flaw::Disconnected {
        step: nodes[lonely].name.to_string(),
        first: nodes[0].name.to_string(),
    })
}

/// Which nodes can be reached from one, itself included.
fn reach(nodes: &[Node], from: usize, next: impl Fn(&Node) -> Vec<usize>) -> Vec<bool> {
    let mut reached = vec![false; nodes.len()];
    let mut todo = vec![from];
    while let Some(at) = todo.pop() {
        if !reached[at] {
            reached[at] = true;
            todo.extend(next(&nodes[at]));
        }
    }
    reached
}

/// Steps that are neither before nor after a pivot. Marks those after it.
fn beside(nodes: &mut [Node], pivot: usize) -> Vec<Flaw> {
    let before = reach(nodes, pivot, |node| node.preds.clone());
    let after = reach(nodes, pivot, |node| node.succs.clone());
    let mut flaws = Vec::new();
    let name = nodes[pivot].name.to_string();
    for (index, node) in nodes.iter_mut().enumerate() {
        if !before[index] && !after[index] {
            let step = node.name.to_string();
            let pivot = name.clone();
            flaws.push(Flaw::BesidePivot { step, pivot });
        }
        node.after_pivot |= after[index] && index != pivot;
    }
    flaws
}

fn of_one(node: &Node) -> Vec<Flaw> {
    let step = || node.name.to_string();
    let is_final = node.pivot || node.after_pivot;
    let is_child = matches!(node.undo, Some(super::plan::Undo::Child));
    let mut flaws = Vec::new();
    if is_final && node.undo.is_some() && !is_child {
        flaws.push(Flaw::NeverUndone { step: step() });
    }
    if !is_final && has_effect(node) && node.undo.is_none() && node.excuse.is_none() {
        flaws.push(Flaw::NoUndo { step: step() });
    }
    let parks = matches!(node.way_on, WayOn::Park);
    if node.after_pivot && has_effect(node) && parks && node.retry.max == 0 {
        flaws.push(Flaw::NoWayOn { step: step() });
    }
    if !node.after_pivot && !parks {
        let what = "only what comes after the pivot has a way on; before it, steps are undone";
        flaws.push(Flaw::Misuse { step: step(), what });
    }
    flaws
}
