//! Bodies as files of one directory that sender and receivers share.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use ratebox_kit::PortError;
use uuid::Uuid;

use super::PayloadStore;

/// Keeps each body in a file of its own, on disk before it counts as kept.
#[derive(Clone, Debug)]
pub struct DirectoryStore {
    folder: PathBuf,
}

// === impl DirectoryStore ===

impl DirectoryStore {
    /// Opens or makes the directory. Give it to nobody else.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, PortError> {
        let folder = folder.into();
        let made = fs::create_dir_all(&folder);
        made.map_err(|error| PortError::new("could not make the directory", error))?;
        Ok(Self { folder })
    }

    /// Runs file work where it may block.
    async fn work<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, PortError> {
        let folder = self.folder.clone();
        let done = tokio::task::spawn_blocking(move || work(&folder)).await;
        let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(|error| PortError::new(what, error))
    }
}

#[async_trait]
impl PayloadStore for DirectoryStore {
    async fn put(&self, key: Uuid, body: Bytes) -> Result<(), PortError> {
        self.work("could not keep a body", move |folder| {
            let (made, name) = (
                folder.join(format!("{key}.new")),
                folder.join(key.to_string()),
            );
            let mut file = File::create(&made)?;
            file.write_all(&body)?;
            file.sync_all()?;
            fs::rename(&made, &name)?;
            File::open(folder)?.sync_all()
        })
        .await
    }

    async fn get(&self, key: Uuid) -> Result<Option<Bytes>, PortError> {
        self.work("could not read a body", move |folder| {
            match fs::read(folder.join(key.to_string())) {
                Ok(body) => Ok(Some(body.into())),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn oldest(&self, max: usize) -> Result<Vec<Uuid>, PortError> {
        self.work("could not list bodies", move |folder| {
            let mut keys = Vec::new();
            for file in fs::read_dir(folder)? {
                let name = file?.file_name();
                // What a crash left half written is listed, too, so that it is forgotten in time.
                let name = name.to_string_lossy();
                keys.extend(Uuid::parse_str(name.trim_end_matches(".new")).ok());
            }
            keys.sort_unstable();
            keys.dedup();
            keys.truncate(max);
            Ok(keys)
        })
        .await
    }

    async fn remove(&self, keys: &[Uuid]) -> Result<(), PortError> {
        let keys = keys.to_vec();
        self.work("could not forget a body", move |folder| {
            for name in keys
                .iter()
                .flat_map(|key| [key.to_string(), format!("{key}.new")])
            {
                match fs::remove_file(folder.join(name)) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    Ok(()) | Err(_) => {}
                }
            }
            Ok(())
        })
        .await
    }
}
