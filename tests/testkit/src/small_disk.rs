//! A small disk for one server: a file system of its own that only its process sees.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Mounts a file system of `$1` bytes over the folder `$2`, then becomes the rest of the words.
const MOUNT: &str = r#"
mount -t tmpfs -o "size=$1,mode=0777" small "$2" || exit 71
shift 2
exec "$@"
"#;

/// Bytes written at once.
const CHUNK: usize = 64 * 1024;

/// The command line that starts `program` with a disk of so many bytes in place of `folder`. The
/// process keeps its id. Who is not root gets a name space of users, too.
pub(crate) fn on_small_disk(program: &Path, bytes: u64, folder: &Path) -> Result<Command> {
    let mut command = Command::new("unshare");
    if std::fs::metadata("/proc/self")?.uid() != 0 {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["--mount", "--propagation", "private", "--"])
        .args(["sh", "-c", MOUNT, "sh", &bytes.to_string()])
        .arg(folder)
        .arg(program);
    Ok(command)
}

/// Writes until nothing more fits on the disk of the process `pid`.
pub(crate) fn fill(pid: u32, folder: &Path) -> Result<()> {
    let mut ballast = File::create(ballast(pid, folder)).context("the ballast")?;
    let zeros = vec![0; CHUNK];
    let mut size = CHUNK;
    while size > 0 {
        match ballast.write(&zeros[..size]) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => size /= 2,
            Err(error) => bail!("the disk cannot be filled: {error}"),
        }
    }
    Ok(())
}

/// Makes room again.
pub(crate) fn empty(pid: u32, folder: &Path) -> Result<()> {
    std::fs::remove_file(ballast(pid, folder)).context("the ballast")
}

/// As the process sees its files.
fn ballast(pid: u32, folder: &Path) -> PathBuf {
    let inside = folder.strip_prefix("/").unwrap_or(folder);
    PathBuf::from(format!("/proc/{pid}/root"))
        .join(inside)
        .join("ballast")
}
