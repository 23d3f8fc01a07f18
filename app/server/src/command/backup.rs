//! `ratebox backup DIR`: a sound copy of the embedded databases, while a process works on them or
//! while none does.
//!
//! The buses are copied before the stores: what a bus has lost by its copy is published again from
//! the store, and nothing makes good what a store has lost. Servers have tools of their own.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use ratebox_kit::Clock;
use serde_json::json;

use super::figures::grouped;
use crate::cli::{Ended, ServerArgs};
use crate::config::{Config, JournalPlace};
use crate::out::{hint, say};
use crate::wiring::operator;

/// Where the first admin token is, in the data folder.
const TOKEN_FILE: &str = "admin.token";

/// What stands behind the folder's name until all of it is there.
const UNFINISHED: &[u8] = b".unfinished";

/// What to copy, and whereto.
#[derive(Clone, Debug, Args)]
pub struct BackupArgs {
    #[command(flatten)]
    pub servers: ServerArgs,
    /// Folder of the copy: a new or an empty one.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// A file that was copied.
struct Copied {
    name: String,
    bytes: u64,
}

/// Copies what is embedded; a copy that fails leaves nothing that looks like one.
///
/// # Errors
/// When there is nothing to copy, the folder is in use, or a file cannot be read or written.
pub async fn run(config: Config, args: BackupArgs, json: bool) -> Result<Ended> {
    let files = operator::embedded_files(&config)?;
    ensure!(
        !files.is_empty(),
        "nothing is embedded: copy the store with pg_dump; the bus is made good from it"
    );
    if let JournalPlace::Sqlite(file) = config.saga.place()?
        && !file.exists()
    {
        // A relative name depends on the folder of whoever asks.
        let file = file.display();
        hint!("saga.store_url names {file}, which is not there: no journal of sagas is copied");
    }
    let dir = target(&args.dir)?;
    let unfinished = Unfinished::beside(&dir, &files)?;
    let begun_at = Clock::system().now();
    let mut copied = Vec::new();
    for file in &files {
        let copy = copy(file, &unfinished.path).await;
        let copy = copy.with_context(|| format!("copying {}", file.display()))?;
        if !json {
            say!("copied {} ({} bytes)", copy.name, grouped(copy.bytes));
        }
        copied.push(copy);
    }
    copied.extend(copy_token(&config.server.data_dir, &unfinished.path)?);
    unfinished.finish(&dir)?;
    if json {
        let files = copied.iter();
        let files: Vec<_> = files
            .map(|it| json!({ "name": it.name, "bytes": it.bytes }))
            .collect();
        let dir = dir.display().to_string();
        let report = json!({ "dir": dir, "begun_at": begun_at, "files": files });
        say!("{report}");
        return Ok(Ended::Well);
    }
    let shown = dir.display();
    say!("{shown} holds everything up to {begun_at}; to start it: ratebox up --data-dir {shown}");
    if let Some(journal) = operator::own_journal(&config)? {
        let journal = journal.display();
        hint!(
            "the journal of sagas is in it, too; saga.store_url names where it belongs: {journal}"
        );
    }
    if operator::embedded_store(&config)?.is_none() {
        hint!("the store is a server and not in it: copy that with pg_dump, now that this is done");
    }
    Ok(Ended::Well)
}

/// The folder of the copy, by its whole name.
fn target(dir: &Path) -> Result<PathBuf> {
    let dir: PathBuf = std::path::absolute(dir)?.components().collect();
    ensure!(
        dir.file_name().is_some(),
        "{} cannot be the folder of a copy; name a new one",
        dir.display()
    );
    ensure!(
        !dir.as_os_str().as_encoded_bytes().ends_with(UNFINISHED),
        "{} is the name of a backup under way; name another folder",
        dir.display()
    );
    match fs::read_dir(&dir) {
        Ok(mut there) => ensure!(
            there.next().is_none(),
            "{} is not empty; name a new folder",
            dir.display()
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => bail!("{} cannot be the folder of a copy: {error}", dir.display()),
    }
    Ok(dir)
}

/// Copies a database, and says how large the copy is.
async fn copy(file: &Path, into: &Path) -> Result<Copied> {
    let name = file.file_name().context("a file has a name")?;
    let to = into.join(name);
    operator::file(file)?.copy_to(&to).await?;
    Ok(Copied {
        name: name.to_string_lossy().into_owned(),
        bytes: fs::metadata(&to)?.len(),
    })
}

/// Copies the first admin token, where it is still in its file.
fn copy_token(from: &Path, into: &Path) -> Result<Option<Copied>> {
    let text = match fs::read(from.join(TOKEN_FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("reading admin.token"),
    };
    let mut file = super::private_file(&into.join(TOKEN_FILE)).context("copying admin.token")?;
    file.write_all(&text)
        .and_then(|()| file.sync_all())
        .context("copying admin.token")?;
    Ok(Some(Copied {
        name: TOKEN_FILE.to_owned(),
        bytes: u64::try_from(text.len()).unwrap_or(u64::MAX),
    }))
}

/// A folder that is being written, under a name that says so; removed unless it is finished.
struct Unfinished {
    path: PathBuf,
    /// The folder, locked as long as somebody writes into it: a process that is killed leaves no lock.
    _lock: File,
}

// === impl Unfinished ===

impl Unfinished {
    /// What was begun under that name and cut off makes room, if it holds no more than `files`.
    fn beside(dir: &Path, files: &[PathBuf]) -> Result<Self> {
        let mut path = dir.as_os_str().to_owned();
        path.push(OsStr::from_bytes(UNFINISHED));
        let path = PathBuf::from(path);
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot make {}", parent.display()))?;
        }
        let is_new = match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => bail!("cannot make {}: {error}", path.display()),
        };
        let cannot_use = || format!("cannot use {}", path.display());
        let lock = File::open(&path).with_context(cannot_use)?;
        let is_mine = match lock.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => {
                bail!("{} is there: another backup is under way", path.display())
            }
            // A file system that knows no locks: nobody can say who writes there.
            Err(TryLockError::Error(_)) => false,
        };
        if !is_new {
            ensure!(
                is_mine && is_left_over(&path, &lock, files).with_context(cannot_use)?,
                "{} is there: another backup is under way, or one was cut off, or it is something \
                 else; remove it, or name another folder",
                path.display()
            );
            hint!("{} was cut off, and is begun anew", path.display());
            begin_anew(&path).with_context(cannot_use)?;
        }
        Ok(Self { path, _lock: lock })
    }

    /// Gives it its name, once everything in it is on disk.
    fn finish(self, dir: &Path) -> Result<()> {
        let on_disk = |folder: &Path| File::open(folder).and_then(|it| it.sync_all());
        on_disk(&self.path)
            .and_then(|()| fs::rename(&self.path, dir))
            .with_context(|| format!("cannot make {}", dir.display()))?;
        if let Some(parent) = dir.parent() {
            on_disk(parent).with_context(|| format!("{} is not on disk", dir.display()))?;
        }
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Once it has its name there is nothing under this one.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Whether a folder is what a backup that was cut off has left: copies of `files`, a token, nothing
/// else. The originals are none, nor is what somebody works on: a copy has no WAL.
fn is_left_over(path: &Path, opened: &File, files: &[PathBuf]) -> io::Result<bool> {
    let (named, opened) = (fs::symlink_metadata(path)?, opened.metadata()?);
    if (named.dev(), named.ino()) != (opened.dev(), opened.ino()) {
        return Ok(false); // Its name has passed on to another folder meanwhile.
    }
    let whole = fs::canonicalize(path)?;
    for file in files {
        if fs::canonicalize(file)?.parent() == Some(whole.as_path()) {
            return Ok(false);
        }
    }
    for file in fs::read_dir(path)? {
        let file = file?;
        let name = file.file_name();
        let is_copy = |it: &OsStr| {
            let more = name.as_bytes().strip_prefix(it.as_bytes());
            more.is_some_and(|more| matches!(more, b"" | b"-journal"))
        };
        let mut copied = files.iter().filter_map(|it| it.file_name());
        let is_ours = name == TOKEN_FILE || copied.any(is_copy);
        if !is_ours || !file.file_type()?.is_file() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Empties what was left, so that it is as a new folder.
fn begin_anew(path: &Path) -> io::Result<()> {
    for file in fs::read_dir(path)? {
        fs::remove_file(file?.path())?;
    }
    fs::set_permissions(path, Permissions::from_mode(0o700))
}
