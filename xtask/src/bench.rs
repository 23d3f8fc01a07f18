//! `cargo xtask bench`: builds for release and hands over to the bench crate, which starts servers
//! of its own and prints one JSON object a line on stdout.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::{install, step, workspace};

/// The binary to measure in place of a build for release.
const BINARY: &str = "RATEBOX_BIN";

/// Measures the named workloads, or all.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    install::missing()?;
    let binary = match std::env::var_os(BINARY) {
        Some(named) => PathBuf::from(named),
        None => {
            // The binary alone first, with just the features that it is shipped with.
            step::run(workspace::cargo().args(["build", "--release", "-p", "ratebox-server"]))?;
            workspace::binary("release")?
        }
    };
    step::run(program(&binary)?.args(arguments))
}

/// The bench crate's program, told to measure `binary`; its arguments are still to be added.
pub(crate) fn program(binary: &Path) -> Result<Command> {
    let mut command = workspace::cargo();
    command
        .arg("run")
        .arg("--manifest-path")
        .arg(workspace::root().join("Cargo.toml"))
        .args(["--release", "-p", "ratebox-bench", "--"])
        .env(BINARY, binary)
        .env(
            ratebox_testkit::tools::VALKEY_SERVER,
            ratebox_testkit::tools::valkey_server()?,
        )
        .env("CARGO_TERM_QUIET", "true")
        // `--beside ../peers` means the caller's folder, not the root.
        .current_dir(std::env::current_dir()?);
    Ok(command)
}
