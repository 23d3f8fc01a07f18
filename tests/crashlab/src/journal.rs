//! The sender's journal: one JSON line a deed, written when it is done and read back for the check,
//! so that the check sees what a reader of the file would see.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::checker::Sends;

/// A journal that is being written.
pub(crate) struct Journal {
    file: BufWriter<File>,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The bus confirmed it.
    Confirmed,
    /// The answer got lost.
    Unknown,
}

// === impl Journal ===

impl Journal {
    /// Goes on with the journal, or begins it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(path);
        let file = file.context("the journal cannot be written")?;
        Ok(Self {
            file: BufWriter::new(file),
        })
    }

    pub(crate) fn sent(&mut self, id: &str, how: Sent) -> Result<()> {
        let line = json!({ "id": id, "confirmed": how == Sent::Confirmed });
        writeln!(self.file, "{line}").context("the journal cannot be written")
    }

    /// Puts what was written on disk.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_data()?;
        Ok(())
    }
}

/// Reads a journal back.
pub(crate) fn read(path: &PathBuf) -> Result<HashMap<String, Sends>> {
    let mut sent: HashMap<String, Sends> = HashMap::new();
    for line in BufReader::new(File::open(path)?).lines() {
        let line: Value = serde_json::from_str(&line?)?;
        let id = line["id"].as_str().context("a line without an id")?;
        let sends = sent.entry(id.to_owned()).or_default();
        match line["confirmed"].as_bool() {
            Some(true) => sends.confirmed += 1,
            _ => sends.unknown += 1,
        }
    }
    Ok(sent)
}
