//! `cargo xtask ci`: what has to be green. Cheap checks come first; a failure does not hide what
//! the later steps have to say.

use anyhow::Result;

use crate::step::{self, Steps};
use crate::{deny, disposable, docs, plans, test, tidy, workspace};

/// Runs every check and prints seconds per step.
pub(crate) fn run() -> Result<()> {
    let mut steps = Steps::new("ci");
    steps.try_run("fmt", || {
        step::run(workspace::cargo().args(["fmt", "--all", "--check"]))
    });
    steps.try_run("tidy", tidy::run);
    steps.try_run("deny", deny::run);
    steps.try_run("disposable", || disposable::run(&["--check".to_owned()]));
    steps.try_run("plans", || plans::run(&["--check".to_owned()]));
    steps.try_run("clippy", clippy);
    // Its failure is among the steps, and `finish` reports it.
    let _ = test::run_steps(&mut steps, &[]);
    steps.try_run("docs", docs::run);
    steps.finish()
}

fn clippy() -> Result<()> {
    let mut cargo = workspace::cargo();
    cargo.args(["clippy", "--workspace", "--all-targets"]);
    cargo.args(test::FEATURES).args(["--", "-D", "warnings"]);
    step::run(&mut cargo)
}
