//! `cargo xtask test`: everything that tests, from a bare machine.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::servers::Servers;
use crate::step::{self, Steps};
use crate::{install, workspace};

/// Crates whose tests start the built binary.
const RUN_THE_BINARY: [&str; 3] = ["ratebox-server", "ratebox-e2e", "ratebox-crashlab"];

/// Crates whose documentation has examples, some of which must not compile.
const WITH_EXAMPLES: [&str; 1] = ["ratebox-saga"];

/// All optional parts are built and tested.
pub(crate) const FEATURES: [&str; 2] = ["--features", "ratebox-outbox/full,ratebox-server/full"];

/// Runs the tests and prints seconds per step.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let mut steps = Steps::new("test");
    let outcome = run_steps(&mut steps, arguments);
    steps.finish().and(outcome)
}

/// The steps alone, for `ci`.
pub(crate) fn run_steps(steps: &mut Steps, arguments: &[String]) -> Result<()> {
    let chosen = Chosen::from(arguments)?;
    steps.run("test: install what is missing", install::missing)?;
    steps.run("test: build", || build(&chosen))?;
    let servers = steps.run("test: start servers", Servers::start)?;
    let environment = servers.environment()?;
    let binary = workspace::binary("debug")?;
    steps.run("test: run", || {
        let mut runner = runner(&chosen);
        runner.envs(environment);
        if binary.is_file() {
            runner.env("RATEBOX_BIN", binary);
        }
        step::run(&mut runner)
    })?;
    if let Some(mut examples) = chosen.examples() {
        steps.run("test: examples of the documentation", || {
            step::run(&mut examples)
        })?;
    }
    steps.run("test: stop servers", || {
        drop(servers);
        Ok(())
    })
}

/// Builds the binary and the tests at once: one set of features, so that nothing is built twice.
/// For chosen crates the binary alone is built, and only if one of them runs it.
fn build(chosen: &Chosen) -> Result<()> {
    if chosen.packages.is_empty() {
        step::run(
            workspace::cargo()
                .args(["build", "--workspace", "--bins", "--tests"])
                .args(FEATURES),
        )
    } else if chosen
        .packages
        .iter()
        .any(|package| RUN_THE_BINARY.contains(&&**package))
    {
        step::run(workspace::cargo().args(["build", "-p", "ratebox-server"]))
    } else {
        Ok(())
    }
}

/// Which tests to run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Chosen {
    packages: Vec<String>,
    names: Vec<String>,
}

impl Chosen {
    fn from(arguments: &[String]) -> Result<Self> {
        let mut chosen = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match &**argument {
                "-p" | "--package" => {
                    let package = arguments.next().context("-p names no crate")?;
                    chosen.packages.push(package.clone());
                }
                name => chosen.names.push(name.to_owned()),
            }
        }
        Ok(chosen)
    }

    /// The runner of tests knows nothing of examples: cargo runs them, with the features that
    /// everything was built with.
    fn examples(&self) -> Option<Command> {
        let has_some = |name: &String| WITH_EXAMPLES.contains(&name.as_str());
        let is_chosen = self.packages.is_empty() || self.packages.iter().any(has_some);
        // Names choose tests, not examples.
        if !is_chosen || !self.names.is_empty() {
            return None;
        }
        let mut command = workspace::cargo();
        command.args(["test", "--doc"]).args(self.selection());
        Some(command)
    }

    fn selection(&self) -> Vec<&str> {
        if self.packages.is_empty() {
            return ["--workspace"].into_iter().chain(FEATURES).collect();
        }
        let packages = self.packages.iter();
        let mut words: Vec<&str> = packages.flat_map(|package| ["-p", package]).collect();
        if self.packages.iter().any(|it| it == "ratebox-outbox") {
            words.extend(["--features", "ratebox-outbox/full"]);
        }
        words
    }
}

/// cargo-nextest where it is installed, cargo's own runner where not.
fn runner(chosen: &Chosen) -> Command {
    let mut command = workspace::cargo();
    if has_nextest() {
        command
            .args(["nextest", "run", "--no-tests=warn"])
            .args(["--test-threads", &threads().to_string()])
            .args(chosen.selection());
        command.args(&chosen.names);
    } else {
        command.args(["test", "--bins", "--lib", "--tests", "--no-fail-fast"]);
        command
            .args(chosen.selection())
            .arg("--")
            .args(&chosen.names);
    }
    command
}

/// Tests at once. Most wait for servers most of the time: half as many again as there are cores.
fn threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores + cores / 2
}

fn has_nextest() -> bool {
    let asked = workspace::cargo().args(["nextest", "--version"]).output();
    asked.is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(line: &str) -> Chosen {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Chosen::from(&words).unwrap()
    }

    #[test]
    fn without_a_choice_the_whole_workspace_runs() {
        assert_eq!(chosen("").selection()[..2], ["--workspace", "--features"]);
    }

    #[test]
    fn examples_run_with_all_tests_and_with_those_of_their_crate() {
        assert!(chosen("").examples().is_some());
        assert!(chosen("-p ratebox-saga").examples().is_some());
        assert!(chosen("-p ratebox-kit").examples().is_none());
        assert!(chosen("-p ratebox-saga undo").examples().is_none());
    }

    #[test]
    fn crates_and_names_narrow_it_down() {
        let chosen = chosen("-p ratebox-kit clock -p xtask");
        assert_eq!(chosen.selection(), ["-p", "ratebox-kit", "-p", "xtask"]);
        assert_eq!(chosen.names, ["clock"]);
    }
}
