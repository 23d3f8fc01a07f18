//! Where sagas that ended go before they are deleted.
//!
//! A saga is deleted only after its archive said that it is kept. A process that dies between the
//! two, or another that deletes at the same time, writes it again: the id tells.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use ratebox_kit::PortError;
use serde_json::{Value, json};

use crate::{Error, Record, Result, Stored};

/// Keeps what is about to be deleted.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Keeps sagas that have ended. On return they are safe; after an error none of them is
    /// deleted, and all come again.
    async fn keep(&self, sagas: &[Stored]) -> Result<()>;
}

/// Appends sagas to files of a folder, one a day by their end, one line of JSON each, with all
/// records. Only the owner of the process may read them: what sagas carry may be personal.
#[derive(Clone, Debug)]
pub struct FolderArchive {
    folder: PathBuf,
}

// === impl FolderArchive ===

impl FolderArchive {
    /// In this folder, which is made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        std::fs::create_dir_all(&folder).map_err(failed)?;
        Ok(Self { folder })
    }
}

#[async_trait]
impl Archive for FolderArchive {
    async fn keep(&self, sagas: &[Stored]) -> Result<()> {
        let mut files: Vec<(PathBuf, String)> = Vec::new();
        for stored in sagas {
            let ended = stored.head.ended_at.unwrap_or(stored.head.updated_at);
            let name = format!("sagas-{}.ndjson", ended.strftime("%Y-%m-%d"));
            let path = self.folder.join(name);
            let line = line(stored)?;
            match files.iter_mut().find(|(it, _)| *it == path) {
                Some((_, text)) => text.push_str(&line),
                None => files.push((path, line)),
            }
        }
        let writing = tokio::task::spawn_blocking(move || {
            files.iter().try_for_each(|(path, text)| append(path, text))
        });
        let written = writing.await.map_err(std::io::Error::other);
        written.and_then(|it| it).map_err(failed)
    }
}

/// Whole lines, on disk when it returns.
fn append(path: &Path, text: &str) -> std::io::Result<()> {
    let is_new = !path.exists();
    let mut options = OpenOptions::new();
    let mut file = options.create(true).append(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    match path.parent().filter(|_| is_new) {
        // A new name is safe once its folder is.
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn line(stored: &Stored) -> Result<String> {
    let head = &stored.head;
    let records = stored.records.iter().map(record);
    let value = json!({
        "id": head.id,
        "definition": &*head.definition,
        "version": head.version,
        "hash": &*head.hash,
        "key": head.key,
        "parent": head.parent.as_ref().map(|it| json!({ "id": it.saga, "step": it.step })),
        "status": head.status.as_str(),
        "error": head.error,
        "created_at": head.created_at,
        "ended_at": head.ended_at,
        "input": carried(Some(&head.input))?,
        "output": carried(head.output.as_ref())?,
        "records": records.collect::<Result<Vec<Value>>>()?,
    });
    Ok(format!("{value}\n"))
}

fn record(record: &Record) -> Result<Value> {
    Ok(json!({
        "seq": record.seq,
        "step": &*record.step,
        "item": record.item,
        "kind": record.kind.as_str(),
        "class": record.class.map(|it| it.as_str()),
        "attempt": record.attempt,
        "at": record.at,
        "took_us": record.took_us,
        "due": record.due,
        "payload": carried(record.payload.as_ref())?,
        "note": record.note,
        "who": record.who,
    }))
}

fn carried(bytes: Option<&bytes::Bytes>) -> Result<Option<Value>> {
    let read = bytes.map(|it| serde_json::from_slice(it));
    read.transpose().map_err(Error::Json)
}

fn failed(error: std::io::Error) -> Error {
    Error::Store(PortError::new("the archive of sagas", error))
}
