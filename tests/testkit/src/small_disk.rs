//! A small disk for one server: a file system of its own that only its process sees, or one that
//! outlives its process.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::process::{Ending, Process};
use crate::wait::block_until;

/// Mounts a file system of `$1` bytes over the folder `$2`, then becomes the rest of the words.
const MOUNT: &str = r#"
mount -t tmpfs -o "size=$1,mode=0777" small "$2" || exit 71
shift 2
exec "$@"
"#;

/// What keeps a disk: says that it is there, and waits.
const HOLD: &str = "touch disk-is-there && exec sleep 86400";
const IS_THERE: &str = "disk-is-there";
/// Time for a disk to be mounted.
const MOUNT_DEADLINE: Duration = Duration::from_secs(10);

/// A disk whose server may end and start again.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    holder: Process,
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts so many bytes over `folder`, for those that are started by
    /// [`command`](Self::command).
    pub(crate) fn mount(bytes: u64, folder: &Path, log: &Path) -> Result<Self> {
        let mut command = Command::new("unshare");
        if !is_root()? {
            // Mounting needs a right that is kept; servers refuse to be root, so the user stays.
            command.args(["--user", "--map-current-user", "--keep-caps"]);
        }
        command
            .args(["--mount", "--propagation", "private", "--"])
            .args(["sh", "-c", MOUNT, "sh", &bytes.to_string()])
            .arg(folder)
            .args(["sh", "-c", "cd \"$1\" && eval \"$2\"", "sh"])
            .arg(folder)
            .arg(HOLD);
        let ending = Ending {
            signal: "KILL",
            remove: None,
        };
        let mut holder = Process::spawn(&mut command, log, ending)?;
        let pid = holder.pid();
        let is_there = block_until(MOUNT_DEADLINE, || {
            inside(pid, folder).join(IS_THERE).exists() || holder.exited().is_some()
        });
        if !is_there || holder.exited().is_some() {
            bail!("a disk could not be mounted:\n{}", holder.logs());
        }
        let folder = folder.to_path_buf();
        Ok(Self { holder, folder })
    }

    /// The command line that runs `program` where it sees the disk, as user and group if told.
    /// The process keeps its id.
    pub(crate) fn command(&self, program: &Path, owner: Option<(u32, u32)>) -> Result<Command> {
        let mut command = Command::new("nsenter");
        if !is_root()? {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.args(["--target", &self.holder.pid().to_string(), "--mount"]);
        if let Some((user, group)) = owner {
            command.args([format!("--setuid={user}"), format!("--setgid={group}")]);
        }
        command.arg("--").arg(program);
        Ok(command)
    }

    pub(crate) fn fill(&self) -> Result<()> {
        fill(self.holder.pid(), &self.folder)
    }

    pub(crate) fn empty(&self) -> Result<()> {
        empty(self.holder.pid(), &self.folder)
    }
}

/// Bytes written at once.
const CHUNK: usize = 64 * 1024;

/// The command line that starts `program` with a disk of so many bytes in place of `folder`. The
/// process keeps its id. Who is not root gets a name space of users, too.
pub(crate) fn on_small_disk(program: &Path, bytes: u64, folder: &Path) -> Result<Command> {
    let mut command = Command::new("unshare");
    if !is_root()? {
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

fn ballast(pid: u32, folder: &Path) -> PathBuf {
    inside(pid, folder).join("ballast")
}

/// A folder as the process sees it.
fn inside(pid: u32, folder: &Path) -> PathBuf {
    let below = folder.strip_prefix("/").unwrap_or(folder);
    PathBuf::from(format!("/proc/{pid}/root")).join(below)
}

fn is_root() -> Result<bool> {
    Ok(std::fs::metadata("/proc/self")?.uid() == 0)
}
