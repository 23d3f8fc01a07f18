//! The file of a database: made for its owner alone, watched while it is open, copied and checked.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::{Error, Result};

/// Sentences about damage that are gathered; the first says enough.
const DAMAGE: &str = "PRAGMA quick_check(10)";

/// The file as SQLite is told: without a folder, a name such as `file:x` would be read as a URI.
pub(super) fn absolute(file: &Path) -> PathBuf {
    std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf())
}

/// Makes a file that is not there as its owner's alone; SQLite's own files beside it take its mode.
/// One that is there keeps the mode that somebody gave it.
pub(super) fn make_private(file: &Path) {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // What fails here fails again where SQLite opens it, which says why.
    drop(options.open(file));
}

/// A file as it was when it was opened.
#[derive(Debug)]
pub(super) struct Opened {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Opened {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            identity: identity(path).ok().flatten(),
        }
    }

    /// # Errors
    /// When its name is gone or means another file by now: what is written goes nowhere.
    pub(super) fn check(&self) -> Result<()> {
        let now = match identity(&self.path) {
            Ok(now) => now,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            // Nobody knows, so nothing is said.
            Err(_) => return Ok(()),
        };
        if self.identity.is_none() || now == self.identity {
            return Ok(());
        }
        Err(Error::Gone {
            file: self.path.display().to_string(),
        })
    }
}

/// Device and inode; `None` where the system has none.
#[cfg(unix)]
fn identity(file: &Path) -> std::io::Result<Option<(u64, u64)>> {
    use std::os::unix::fs::MetadataExt as _;
    let about = fs::metadata(file)?;
    Ok(Some((about.dev(), about.ino())))
}

#[cfg(not(unix))]
fn identity(file: &Path) -> std::io::Result<Option<(u64, u64)>> {
    fs::metadata(file).map(|_| None)
}

/// Writes all of a database, as of one moment, into a new file, has it on disk, and reads it again.
pub(super) fn copy(connection: &Connection, to: &Path) -> Result<()> {
    let to = absolute(to);
    let name = to.to_str().ok_or_else(|| Error::Settings {
        what: format!("{} is not UTF-8", to.display()),
    })?;
    make_private(&to);
    let written = connection.execute("VACUUM INTO ?1", [name]);
    written.map_err(|error| Error::from(error).of(&to))?;
    File::open(&to)
        .and_then(|file| file.sync_all())
        .map_err(|error| Error::Connection {
            what: format!("{}: {error}", to.display()),
        })?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copy = Connection::open_with_flags(&to, flags)?;
    match damage(&copy)?.first() {
        None => Ok(()),
        Some(said) => Err(Error::Damaged {
            code: said.to_owned(),
        }),
    }
}

/// What contradicts what in a file, in SQLite's words, which name tables and pages and no values.
pub(super) fn damage(connection: &Connection) -> Result<Vec<String>> {
    let mut check = connection.prepare(DAMAGE)?;
    let rows = check.query_map([], |row| row.get::<_, String>(0))?;
    let mut said = Vec::new();
    for row in rows {
        said.extend(Some(row?).filter(|it| it != "ok"));
    }
    Ok(said)
}
