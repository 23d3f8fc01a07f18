//! Which definition a saga was started with.
//!
//! The hash covers what the journal relies on: names, order, what is read, what kind of step it is.
//! Times and retries are not in it; they may change under a running saga.

use std::fmt::Write as _;

use ratebox_kit::id::{hex, sha256};

use super::inputs::INPUT;
use super::plan::{Node, Undo, WayOn, Work};

/// 32 hexadecimal digits.
pub(crate) fn hash(name: &str, version: u32, nodes: &[Node]) -> String {
    let mut text = format!("saga {name} {version}\n");
    for node in nodes {
        line(&mut text, node, nodes);
    }
    let digest = sha256(text.as_bytes());
    hex(&digest[..16])
}

fn line(text: &mut String, node: &Node, nodes: &[Node]) {
    let names = |indices: &[usize]| -> Vec<&str> {
        let name = |index: &usize| match nodes.get(*index) {
            Some(node) => &*node.name,
            None if *index == INPUT => "<input>",
            None => "",
        };
        indices.iter().map(name).collect()
    };
    let mut after = names(&node.preds);
    after.sort_unstable();
    let kind = match &node.work {
        Work::Run(_) => "run".to_owned(),
        Work::InTx(_) => "transaction".to_owned(),
        Work::Sleep(_) => "sleep".to_owned(),
        Work::Signal(signal) => format!("signal {}", signal.name),
        Work::Child(child) => format!("child {} {}", child.plan.name, child.plan.hash),
    };
    let undo = match &node.undo {
        None => "none",
        Some(Undo::Run(_)) => "run",
        Some(Undo::InTx(_)) => "transaction",
        Some(Undo::Child) => "child",
    };
    let way_on = match &node.way_on {
        WayOn::Park => "park",
        WayOn::Alternative(_) => "alternative",
        WayOn::Value(_) => "value",
    };
    let _ = writeln!(
        text,
        "step {} {kind} reads {:?} after {after:?} undo {undo} when {} pivot {} each {} on {way_on}",
        node.name,
        names(&node.data),
        node.when.is_some(),
        node.pivot,
        node.width.is_some(),
    );
}
