//! `cargo xtask docs`: the documentation of our crates, with warnings as errors.

use anyhow::Result;

use crate::{step, workspace};

/// Builds the documentation.
pub(crate) fn run() -> Result<()> {
    let mut command = workspace::cargo();
    command
        .args(["doc", "--workspace", "--no-deps"])
        .env("RUSTDOCFLAGS", "-D warnings");
    step::run(&mut command)
}
