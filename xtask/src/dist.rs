//! `cargo xtask dist`: the binary for servers. It is built twice: the first build counts which way
//! its code takes while W1, W2 and W3 run, the second one is laid out by those counts
//! (profile-guided optimisation, <https://doc.rust-lang.org/rustc/profile-guided-optimization.html>).
//! What it brings is in `bench/RESULTS.md`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::step::Steps;
use crate::{bench, install, step, workspace};

/// Counts are of use for what they were taken from: drains, answers over the bus, accepting.
const WORKLOADS: [&str; 3] = ["W1", "W2", "W3"];

/// The name of the folder below the target folder.
const FOLDER: &str = "dist";

pub(crate) fn run() -> Result<()> {
    let profdata = profdata()?;
    install::missing()?;
    let folder = workspace::target()?.join(FOLDER);
    let counts = folder.join("counts");
    let profile = folder.join("ratebox.profdata");
    if counts.exists() {
        // Counts of an older build would be merged with those of this one.
        std::fs::remove_dir_all(&counts)?;
    }
    let mut steps = Steps::new("dist");
    steps.run("a build that counts", || {
        build(&folder.join("counting"), "-Cprofile-generate", &counts)
    })?;
    // What it measures is slowed down by the counting, so nobody is shown it beside the bars.
    steps.run("W1, W2 and W3 with it, for its counts alone", || {
        let binary = folder.join("counting/release/ratebox");
        let mut training = bench::program(&binary)?;
        step::run_aside(training.args(WORKLOADS), &folder.join("training.log"))
    })?;
    steps.run("its counts", || merge(&profdata, &counts, &profile))?;
    let tuned = folder.join("tuned");
    steps.run("the build for servers", || {
        build(&tuned, "-Cprofile-use", &profile)
    })?;
    steps.finish()?;
    println!("{}", tuned.join("release/ratebox").display());
    Ok(())
}

/// A build of the binary alone, in a folder of its own: other flags build everything anew.
fn build(target: &Path, flag: &str, path: &Path) -> Result<()> {
    let mut cargo = workspace::cargo();
    cargo
        .args(["build", "--release", "-p", "ratebox-server", "--target-dir"])
        .arg(target)
        .env("RUSTFLAGS", format!("{flag}={}", path.display()));
    step::run(&mut cargo)
}

fn merge(profdata: &Path, counts: &Path, profile: &Path) -> Result<()> {
    let mut command = Command::new(profdata);
    command.arg("merge").arg("-o").arg(profile).arg(counts);
    step::run(&mut command).context(
        "the counts could not be merged: `llvm-profdata` has to know the format of this rustc; \
         `rustup component add llvm-tools` installs the one that does",
    )
}

/// The program that reads the counts: the compiler's own, or the newest of the system that knows
/// their format (version 10, since LLVM 19).
fn profdata() -> Result<PathBuf> {
    let libraries = output(Command::new("rustc").args(["--print", "target-libdir"]))
        .context("rustc does not tell its folder")?;
    let own = Path::new(libraries.trim()).with_file_name("bin/llvm-profdata");
    let system = (19..30)
        .rev()
        .map(|version| PathBuf::from(format!("llvm-profdata-{version}")));
    for candidate in std::iter::once(own).chain(system) {
        // Merging nothing is refused, so it is asked for its help.
        if output(Command::new(&candidate).args(["merge", "--help"])).is_ok() {
            return Ok(candidate);
        }
    }
    bail!(
        "`llvm-profdata` is missing: `rustup component add llvm-tools`, or `apt-get install llvm-19`"
    )
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("it ended with {}", output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}
