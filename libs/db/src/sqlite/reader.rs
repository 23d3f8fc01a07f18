//! Readers: connections that run on the runtime's blocking threads, opened when needed.

use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::bind;
use crate::{Error, Result, Row, SqliteSettings, Statement};

#[derive(Debug)]
pub(super) struct Readers {
    settings: SqliteSettings,
    memory_name: String,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    pub(super) fn new(settings: SqliteSettings, memory_name: String) -> Self {
        let permits = Arc::new(Semaphore::new(settings.readers_max.max(1)));
        Self {
            settings,
            memory_name,
            permits,
            idle: Arc::default(),
        }
    }

    pub(super) async fn query(&self, statement: Statement) -> Result<Vec<Row>> {
        self.with(move |connection| bind::query(connection, statement))
            .await
    }

    pub(super) async fn prepare(&self, text: &'static str) -> Result<()> {
        self.with(move |connection| Ok(connection.prepare(text).map(drop)?))
            .await
    }

    /// Works on a connection, on a thread that may wait.
    pub(super) async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let closed = |_| Error::Connection {
            what: "the reader pool is closed".to_owned(),
        };
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(closed)?;
        let kept = self.idle.lock().unwrap_or_else(|e| e.into_inner()).pop();
        let (settings, name, idle) = (
            self.settings.clone(),
            self.memory_name.clone(),
            Arc::clone(&self.idle),
        );
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let connection = match kept {
                Some(connection) => connection,
                None => settings.open(&name)?,
            };
            let answer = work(&connection);
            idle.lock()
                .unwrap_or_else(|e| e.into_inner())
                .push(connection);
            answer
        });
        reading.await.map_err(|_| Error::Connection {
            what: "a reader panicked".to_owned(),
        })?
    }
}
