//! Changes that others could not be told of because the cache's server is away, and the note of it in
//! the data folder.
//!
//! While this process lives its tier tells them when the server is back. One that ends before leaves
//! its note, and the next process over the folder tells others that everything changed. The note
//! says no more than that there is something, so it is small however much there is.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ratebox_cache::Tier;
use ratebox_kit::{Shutdown, id};

/// Begins the names of notes. Each process has one of its own, for several may share a folder.
const NAME: &str = "cache-untold-";

/// What a note says to whoever finds it.
const TEXT: &str = "A process of `ratebox cache` could not tell others of changes. The next one over \
                    this folder does; without one, POST /recompute.\n";

/// How often the note is compared with what is so.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Longest wait for the server when the process stops, after its requests have ended.
const LAST_TRY_MAX: Duration = Duration::from_secs(2);

/// What others were not told of. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Untold {
    tier: Tier,
    /// `None` where nothing outlives the process anyway.
    note: Option<Arc<Note>>,
}

struct Note {
    folder: PathBuf,
    file: PathBuf,
    /// One looks and writes at a time.
    turn: Mutex<()>,
}

// === impl Untold ===

impl Untold {
    pub(crate) fn new(tier: Tier, folder: Option<PathBuf>) -> Self {
        let note = folder.map(|folder| {
            let file = folder.join(format!("{NAME}{}", id::new()));
            let turn = Mutex::new(());
            Arc::new(Note { folder, file, turn })
        });
        Self { tier, note }
    }

    /// Whether others were not told of all changes; it is noted before this is answered.
    pub(crate) async fn any(&self) -> bool {
        if !self.tier.has_untold() {
            return false;
        }
        self.note().await;
        true
    }

    /// Makes the note say what is so; false when it cannot be written.
    pub(crate) async fn note(&self) -> bool {
        let kept = self.keep().await;
        if let Err(error) = &kept {
            tracing::error!(%error,
                "it cannot be noted in the data folder that others were not told of a change");
        }
        kept.is_ok()
    }

    /// Keeps the note right until the process stops. Silently: whoever made a change has said it.
    pub(crate) async fn follow(self, shutdown: Shutdown) {
        while shutdown.sleep(LOOK_EVERY).await {
            let _ = self.keep().await;
        }
    }

    async fn keep(&self) -> io::Result<()> {
        let Some(note) = self.note.clone() else {
            return Ok(());
        };
        let tier = self.tier.clone();
        let kept = tokio::task::spawn_blocking(move || note.keep(&tier)).await;
        kept.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// The notes of other processes, which have ended or share the folder.
    pub(crate) fn left(&self) -> Vec<PathBuf> {
        let Some(note) = &self.note else {
            return Vec::new();
        };
        note.others().unwrap_or_else(|error| {
            tracing::error!(%error,
                "the data folder cannot be searched for changes that others were not told of");
            Vec::new()
        })
    }

    /// Others were told, or this process has noted that they were not.
    pub(crate) fn remove(&self, notes: &[PathBuf]) {
        for note in notes {
            // Another process may have been first.
            if let Err(error) = fs::remove_file(note)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, file = %note.display(),
                    "a note cannot be removed: all is forgotten once more at the next start");
            }
        }
    }

    /// Tries once more when the process stops, and says what is left.
    pub(crate) async fn last_try(&self) {
        if self.tier.has_untold() {
            // How many are left says whether it came in time.
            let _ = tokio::time::timeout(LAST_TRY_MAX, self.tier.tell_untold()).await;
        }
        let noted = self.note().await && self.note.is_some();
        let untold = self.tier.untold();
        if untold == 0 {
            return;
        }
        let advice = match noted {
            true => "the next `ratebox cache` over this data folder tells them; without one",
            false => "once the server is back",
        };
        tracing::error!(
            untold,
            "the cache's server is away: others were not told of {untold} changes and may serve \
             older values; {advice}, POST /recompute to any process"
        );
    }
}

// === impl Note ===

impl Note {
    fn keep(&self, tier: &Tier) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked anew each time: another process may have told everything and removed the note.
        match (tier.has_untold(), self.file.try_exists()?) {
            (true, false) => self.write(),
            (false, true) => fs::remove_file(&self.file),
            (true, true) | (false, false) => Ok(()),
        }
    }

    fn write(&self) -> io::Result<()> {
        let mut file = File::create(&self.file)?;
        file.write_all(TEXT.as_bytes())?;
        file.sync_all()?;
        // And its name.
        File::open(&self.folder)?.sync_all()
    }

    fn others(&self) -> io::Result<Vec<PathBuf>> {
        let mut others = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let is_note = entry.file_name().to_string_lossy().starts_with(NAME);
            if is_note && entry.path() != self.file {
                others.push(entry.path());
            }
        }
        Ok(others)
    }
}
