//! `cargo xtask bench`: builds for release and hands over to the bench crate, which starts servers
//! of its own and prints one JSON object a line on stdout.

use anyhow::Result;

use crate::{install, step, workspace};

/// Measures the named workloads, or all.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    install::missing()?;
    // The binary alone first, with just the features that it is shipped with.
    step::run(workspace::cargo().args(["build", "--release", "-p", "ratebox-server"]))?;
    let mut command = workspace::cargo();
    command
        .arg("run")
        .arg("--manifest-path")
        .arg(workspace::root().join("Cargo.toml"));
    command
        .args(["--release", "-p", "ratebox-bench", "--"])
        .args(arguments);
    command.env("RATEBOX_BIN", workspace::binary("release")?);
    command.env(
        ratebox_testkit::tools::VALKEY_SERVER,
        ratebox_testkit::tools::valkey_server()?,
    );
    // `--beside ../peers` means the caller's folder, not the root.
    command.current_dir(std::env::current_dir()?);
    command.env("CARGO_TERM_QUIET", "true");
    step::run(&mut command)
}
