//! A child process that cannot outlive the test.
//!
//! Beside every child stands a guard: a shell that reads from a pipe which only this process holds.
//! When this process ends, however it ends, the pipe closes and the guard kills the child and
//! removes its folder. Signals are sent by process id, never by name.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::wait::block_until;

/// Kills `$1` with signal `$2` and removes `$3` as soon as its input ends without a word.
const GUARD: &str = r#"
IFS= read -r word && exit 0
kill -s "$2" "$1" 2>/dev/null
n=0
while read -r stat 2>/dev/null <"/proc/$1/stat" && [ "$n" -lt 100 ]; do
    case $stat in *") Z "*) break ;; esac
    sleep 0.05
    n=$((n + 1))
done
kill -s KILL "$1" 2>/dev/null
[ -z "$3" ] || rm -rf -- "$3"
"#;

/// How the guard ends a child whose test is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending<'a> {
    /// Name of the signal, without SIG.
    pub signal: &'a str,
    /// A folder to remove afterwards.
    pub remove: Option<&'a Path>,
}

/// One running child with its guard.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    guard: Option<Child>,
    log: PathBuf,
}

impl Process {
    /// Starts `command` in a process group of its own, its output appended to the file `log`.
    pub(crate) fn spawn(command: &mut Command, log: &Path, ending: Ending<'_>) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let output = OpenOptions::new().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("could not start {program}"))?;
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard", &child.id().to_string(), ending.signal])
            .arg(ending.remove.unwrap_or(Path::new("")))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("could not start the guard")?;
        Ok(Self {
            child,
            guard: Some(guard),
            log: log.to_path_buf(),
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the child wrote so far, from all its runs.
    pub(crate) fn logs(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        signal(self.pid(), name)
    }

    /// The exit status, when the child has ended.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten();
        if status.is_some() {
            self.dismiss_guard(); // Its process id may soon belong to somebody else.
        }
        status
    }

    /// Blocks until the child has ended.
    pub(crate) fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let mut status = None;
        block_until(deadline, || {
            status = self.exited();
            status.is_some()
        });
        status.with_context(|| format!("process {} did not end within {deadline:?}", self.pid()))
    }

    /// Kills the child with -9 and reaps it.
    pub(crate) fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.dismiss_guard();
    }

    fn dismiss_guard(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            if let Some(mut input) = guard.stdin.take() {
                let _ = input.write_all(b"done\n");
            }
            let _ = guard.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Sends a signal (`TERM`, `KILL`, `STOP` …) to one process.
pub(crate) fn signal(pid: u32, name: &str) -> Result<()> {
    // The shell's own `kill`: small images have no program of that name.
    let status = Command::new("sh")
        .args(["-c", r#"kill -s "$1" "$2""#, "kill", name, &pid.to_string()])
        .stderr(Stdio::null())
        .status()?;
    if !status.success() {
        bail!("process {pid} could not be sent {name}: it has ended");
    }
    Ok(())
}

/// The children of a process, from /proc; empty where there is none.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| stat(*pid).is_some_and(|(_, its_parent)| its_parent == parent))
        .collect()
}

/// Whether a process runs; one that merely waits to be reaped does not.
pub(crate) fn runs(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z')
}

/// State and parent of a process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in the second field may hold spaces and parentheses; the fields go on after it.
    let mut fields = line.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
