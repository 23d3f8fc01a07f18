//! Steps of a command: each is announced, timed and told in a summary. All of it goes to stderr, so
//! that stdout belongs to what a step prints.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use ratebox_kit::Stopwatch;

/// The steps taken so far.
#[derive(Debug)]
pub(crate) struct Steps {
    name: &'static str,
    total: Stopwatch,
    taken: Vec<Taken>,
}

#[derive(Debug)]
struct Taken {
    name: String,
    seconds: f64,
    failure: Option<String>,
}

impl Steps {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            total: Stopwatch::start(),
            taken: Vec::new(),
        }
    }

    /// Takes one step; a failure ends the command.
    pub(crate) fn run<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        eprintln!("── {name}");
        let watch = Stopwatch::start();
        let outcome = work();
        self.taken.push(Taken {
            name: name.to_owned(),
            seconds: watch.elapsed().as_secs_f64(),
            failure: outcome.as_ref().err().map(|error| format!("{error:#}")),
        });
        outcome.with_context(|| format!("{name} failed"))
    }

    /// Takes one step and goes on after a failure, which [`Steps::finish`] reports.
    pub(crate) fn try_run(&mut self, name: &str, work: impl FnOnce() -> Result<()>) {
        if let Err(error) = self.run(name, work) {
            eprintln!("{error:#}");
        }
    }

    /// Prints seconds per step and in total.
    ///
    /// # Errors
    /// When a step failed.
    pub(crate) fn finish(self) -> Result<()> {
        eprintln!("── {}: seconds per step", self.name);
        for step in &self.taken {
            let verdict = if step.failure.is_none() {
                "ok"
            } else {
                "FAILED"
            };
            eprintln!("{:>8.1}  {:<6} {}", step.seconds, verdict, step.name);
        }
        eprintln!("{:>8.1}  total", self.total.elapsed().as_secs_f64());
        let failed: Vec<&str> = self
            .taken
            .iter()
            .filter(|step| step.failure.is_some())
            .map(|step| step.name.as_str())
            .collect();
        if !failed.is_empty() {
            bail!("{} failed: {}", self.name, failed.join(", "));
        }
        Ok(())
    }
}

/// Runs a program to its end with our own output.
///
/// # Errors
/// When it cannot be started or fails; the message holds the command line.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = command_line(command);
    let status = command
        .status()
        .with_context(|| format!("could not start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// Runs a program to its end with its output in a file: for what is done for its effect, and whose
/// words would only be mistaken for a result.
///
/// # Errors
/// When it cannot be started or fails; the message names the file.
pub(crate) fn run_aside(command: &mut Command, words: &Path) -> Result<()> {
    let file = File::create(words).with_context(|| format!("no {}", words.display()))?;
    command.stdout(file.try_clone()?).stderr(file);
    run(command).with_context(|| format!("what it said is in {}", words.display()))
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_run_aside_says_nothing_here_and_its_failure_names_the_file() {
        let name = format!("ratebox-step-{}", std::process::id());
        let words = std::env::temp_dir().join(name);
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo counted; echo NOT MET >&2; exit 7"]);
        let failed = run_aside(&mut shell, &words).unwrap_err();
        let said = std::fs::read_to_string(&words).unwrap();
        std::fs::remove_file(&words).unwrap();
        assert_eq!(said, "counted\nNOT MET\n");
        let failed = format!("{failed:#}");
        assert!(failed.contains(&words.display().to_string()), "{failed}");
    }
}
