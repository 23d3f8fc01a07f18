//! Where the workspace is, what cargo knows of it, and how to call cargo.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// The root folder.
pub(crate) fn root() -> PathBuf {
    ratebox_testkit::tools::workspace_root()
}

/// Cargo, to be run from the root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).stdin(Stdio::null());
    if std::env::var_os("CI").is_some() {
        // A fresh clone is built once: nothing would ever read what incremental builds keep.
        command.env("CARGO_INCREMENTAL", "0");
    }
    command
}

/// What `cargo metadata` says, with all dependencies or only our own packages.
///
/// # Errors
/// When a manifest is wrong.
pub(crate) fn metadata(with_dependencies: bool) -> Result<Value> {
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1"]);
    if !with_dependencies {
        command.arg("--no-deps");
    }
    let output = command
        .stderr(Stdio::piped())
        .output()
        .context("could not start cargo")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The folder of a dependency's sources, in the release that Cargo.lock names.
///
/// # Errors
/// When there is no such dependency.
pub(crate) fn folder_of(name: &str) -> Result<PathBuf> {
    let metadata = metadata(true)?;
    let packages = metadata["packages"].as_array();
    let package = packages
        .and_then(|all| all.iter().find(|it| it["name"] == name))
        .with_context(|| format!("{name} is no dependency"))?;
    let manifest = package["manifest_path"].as_str().unwrap_or_default();
    let folder = Path::new(manifest).parent();
    Ok(folder.context("a manifest without folder")?.to_owned())
}

/// The folder that cargo builds into.
///
/// # Errors
/// When cargo does not tell it.
pub(crate) fn target() -> Result<PathBuf> {
    let metadata = metadata(false)?;
    let target = metadata["target_directory"]
        .as_str()
        .context("cargo names no target folder")?;
    Ok(PathBuf::from(target))
}

/// The binary that a build of `profile` (`debug`, `release`) leaves.
///
/// # Errors
/// When cargo does not tell its folder.
pub(crate) fn binary(profile: &str) -> Result<PathBuf> {
    Ok(target()?.join(profile).join("ratebox"))
}
