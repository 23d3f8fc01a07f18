//! `cargo xtask docs`: the documentation of our crates, with warnings as errors.

use anyhow::Result;

use crate::{step, test, workspace};

/// Builds the documentation, of the optional parts too: with the features of all other checks,
/// whose work is used again.
pub(crate) fn run() -> Result<()> {
    let mut command = workspace::cargo();
    command
        .args(["doc", "--workspace", "--no-deps"])
        .args(test::FEATURES)
        .env("RUSTDOCFLAGS", "-D warnings");
    step::run(&mut command)
}
