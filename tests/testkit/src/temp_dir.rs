//! A folder that goes away with the value that holds it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::unique_name;

/// A fresh folder below the system's place for temporary files, removed on drop.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// Makes an empty folder.
    ///
    /// # Errors
    /// When the system's temporary folder cannot be written.
    pub fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(unique_name("ratebox"));
        std::fs::create_dir_all(&path)
            .with_context(|| format!("could not make the temporary folder {}", path.display()))?;
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file or folder inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A leftover folder harms nobody, a panic while dropping would hide the test's own.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
