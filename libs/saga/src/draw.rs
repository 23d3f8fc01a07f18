//! Sagas as Mermaid flow charts: a definition, or one run with its states and durations.

use std::fmt::Write as _;

use crate::definition::plan::{Node, Plan, WayOn, Work};
use crate::{Saga, Status, StepState, StepView, View};

impl<I, O> Saga<I, O> {
    /// The definition as a Mermaid flow chart: undos are dashed, the pivot is a hexagon, and what
    /// comes after it has its own colour.
    pub fn mermaid(&self) -> String {
        definition(&self.plan())
    }
}

pub(crate) fn definition(plan: &Plan) -> String {
    let mut out = head();
    for (index, node) in plan.nodes.iter().enumerate() {
        shape(&mut out, index, &label(node), node.pivot, zone(node));
    }
    edges(&mut out, plan);
    undos(&mut out, plan);
    out.push_str(CLASSES_OF_A_DEFINITION);
    out
}

impl View {
    /// The run as a Mermaid flow chart: each step in the colour of its state, with its attempts
    /// and how long it took.
    pub fn mermaid(&self) -> String {
        let mut out = head();
        let at = |name: &String| self.steps.iter().position(|it| it.name == *name);
        for (index, step) in self.steps.iter().enumerate() {
            shape(
                &mut out,
                index,
                &told(step),
                step.pivot,
                step.state.as_str(),
            );
            for before in step.after.iter().filter_map(at) {
                let _ = writeln!(out, "  s{before} --> s{index}");
            }
            if step.after.is_empty() {
                let _ = writeln!(out, "  START([start]) --> s{index}");
            }
        }
        let end = match self.head.status {
            Status::Completed => "SUCCESS([completed])",
            Status::RolledBack => "ROLLED_BACK([rolled back])",
            Status::Failed => "FAILED([failed])",
            Status::Parked => "PARKED([parked])",
            Status::Pending
            | Status::Executing
            | Status::ForwardRecovery
            | Status::Compensating => "RUNNING([under way])",
        };
        let is_last = |step: &StepView| {
            let is_before = |other: &StepView| other.after.contains(&step.name);
            !self.steps.iter().any(is_before)
        };
        for (index, _) in self.steps.iter().enumerate().filter(|(_, it)| is_last(it)) {
            let _ = writeln!(out, "  s{index} --> {end}");
        }
        out.push_str(CLASSES_OF_A_RUN);
        out
    }
}

const CLASSES_OF_A_DEFINITION: &str = "  classDef reversible fill:#e8f1ff,stroke:#3b6fb5
  classDef pivot fill:#ffe9b8,stroke:#b57f00,stroke-width:3px
  classDef committed fill:#e5f6e5,stroke:#3d8b3d
  classDef compensation fill:#fff,stroke:#b53b3b,stroke-dasharray:4 3
";

const CLASSES_OF_A_RUN: &str = "  classDef waiting fill:#f4f4f4,stroke:#999
  classDef running fill:#e8f1ff,stroke:#3b6fb5,stroke-width:3px
  classDef sleeping fill:#eee8ff,stroke:#6b4fb5
  classDef signal fill:#eee8ff,stroke:#6b4fb5,stroke-dasharray:4 3
  classDef done fill:#e5f6e5,stroke:#3d8b3d
  classDef skipped fill:#f4f4f4,stroke:#999,stroke-dasharray:4 3
  classDef failed fill:#ffe1e1,stroke:#b53b3b
  classDef undoing fill:#fff1dd,stroke:#b57f00,stroke-width:3px
  classDef undone fill:#fff1dd,stroke:#b57f00
  classDef parked fill:#ffe1e1,stroke:#b53b3b,stroke-width:4px
";

fn head() -> String {
    "flowchart TB\n".to_owned()
}

/// Names are letters, digits, `-`, `_` and `.`, so that nothing need be escaped.
fn shape(out: &mut String, index: usize, label: &str, is_pivot: bool, class: &str) {
    let (open, close) = if is_pivot { ("{{", "}}") } else { ("[", "]") };
    let _ = writeln!(out, "  s{index}{open}\"{label}\"{close}:::{class}");
}

fn zone(node: &Node) -> &'static str {
    match (node.pivot, node.after_pivot) {
        (true, _) => "pivot",
        (false, true) => "committed",
        (false, false) => "reversible",
    }
}

fn label(node: &Node) -> String {
    let kind = match &node.work {
        Work::Run(_) => String::new(),
        Work::InTx(_) => "<br/>in a transaction".to_owned(),
        Work::Sleep(time) => format!("<br/>sleeps {time:?}"),
        Work::Signal(signal) => match signal.deadline {
            Some(deadline) => format!("<br/>is told within {deadline:?}"),
            None => "<br/>is told".to_owned(),
        },
        Work::Child(child) => format!("<br/>saga {}", child.plan.name),
    };
    let each = node
        .width
        .map_or_else(String::new, |width| format!("<br/>each, {width} at once"));
    let when = if node.when.is_some() {
        "<br/>maybe"
    } else {
        ""
    };
    let way_on = match &node.way_on {
        WayOn::Park => "",
        WayOn::Alternative(_) => "<br/>has an alternative",
        WayOn::Value(_) => "<br/>can be left out",
    };
    format!("{}{kind}{each}{when}{way_on}", node.name)
}

fn told(step: &StepView) -> String {
    let mut label = step.name.clone();
    if let Some((done, all)) = step.items {
        let _ = write!(label, "<br/>{done} of {all}");
    }
    if step.took_us > 0 {
        let _ = write!(label, "<br/>{}", time(step.took_us));
    }
    if step.attempts > 1 {
        let _ = write!(label, "<br/>{} attempts", step.attempts);
    }
    if step.state != StepState::Waiting {
        let _ = write!(label, "<br/>{}", step.state.as_str());
    }
    label
}

fn time(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

fn edges(out: &mut String, plan: &Plan) {
    for (index, node) in plan.nodes.iter().enumerate() {
        if node.preds.is_empty() {
            let _ = writeln!(out, "  START([start]) --> s{index}");
        }
        for pred in &node.preds {
            // A thin line where nothing is read.
            let line = if node.data.contains(pred) {
                "-->"
            } else {
                "-.->"
            };
            let _ = writeln!(out, "  s{pred} {line} s{index}");
        }
        if node.succs.is_empty() {
            let _ = writeln!(out, "  s{index} --> SUCCESS([completed])");
        }
    }
}

fn undos(out: &mut String, plan: &Plan) {
    for (index, node) in plan.nodes.iter().enumerate() {
        if node.is_undoable() {
            let name = &node.name;
            let _ = writeln!(out, "  comp_{index}[\"undo {name}\"]:::compensation");
            let _ = writeln!(out, "  s{index} -.- comp_{index}");
        }
    }
}
