//! The database.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratebox_db::{PostgresSettings, SqliteSettings};
use ratebox_kit::Secret;
use serde::Deserialize;

/// The database.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// DSN of PostgreSQL; empty = SQLite.
    pub url: Secret,
    /// File that holds the DSN instead.
    pub url_file: String,
    /// Schema of our tables.
    pub schema: String,
    /// Connections at most.
    pub pool_max: usize,
    /// Milliseconds to wait for a connection.
    pub connect_timeout_ms: u64,
    /// Milliseconds after which the server ends a statement.
    pub statement_timeout_ms: u64,
    /// SQLite connections that read.
    pub readers_max: usize,
    /// Bring the tables up to date at start.
    pub migrate_at_start: bool,
}

impl StoreConfig {
    /// The DSN, from the setting or its file; `None` = embedded.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn dsn(&self) -> Result<Option<Secret>> {
        secret("store.url_file", &self.url, &self.url_file)
    }

    /// Refuses settings that contradict each other.
    ///
    /// # Errors
    /// With what to change.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            self.url.is_empty() || self.url_file.is_empty(),
            "store.url and store.url_file are both set; unset one of them"
        );
        ensure!(!self.schema.is_empty(), "store.schema must not be empty");
        Ok(())
    }

    /// Settings for PostgreSQL.
    pub fn postgres(&self, dsn: Secret) -> PostgresSettings {
        PostgresSettings {
            dsn,
            schema: self.schema.clone(),
            pool_max: self.pool_max,
            connect_timeout: Duration::from_millis(self.connect_timeout_ms),
            statement_timeout: Duration::from_millis(self.statement_timeout_ms),
        }
    }

    /// Settings for a SQLite file.
    pub fn sqlite(&self, path: &Path) -> SqliteSettings {
        SqliteSettings {
            readers_max: self.readers_max,
            ..SqliteSettings::new(path)
        }
    }
}

/// A secret that is set directly or by the name of a file.
pub(super) fn secret(key: &str, direct: &Secret, file: &str) -> Result<Option<Secret>> {
    if !file.is_empty() {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("{key} names {file}, which cannot be read"))?;
        return Ok(Some(Secret::new(text.trim())));
    }
    Ok(Some(direct.clone()).filter(|secret| !secret.is_empty()))
}
