//! The process, its log and its metrics.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde::Deserialize;

/// The process.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Address of the API.
    pub listen: SocketAddr,
    /// Folder of the embedded databases.
    pub data_dir: PathBuf,
    /// Seconds that a start waits for servers that are away; 0 = as long as it takes.
    pub start_timeout_s: u64,
    /// Seconds that tasks may take to finish.
    pub shutdown_timeout_s: u64,
    /// Worker threads; 0 = one a core.
    pub threads: usize,
}

/// What is logged.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// A level or directives.
    pub level: String,
    /// For people or for machines.
    pub format: LogFormat,
}

impl ServerConfig {
    /// Refuses a data folder without a name: the current one would get the databases, and stay
    /// open to everybody.
    ///
    /// # Errors
    /// With the key.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            !self.data_dir.as_os_str().is_empty(),
            "server.data_dir must not be empty"
        );
        Ok(())
    }
}

/// The words that are levels; the parser takes any other word for the name of a part.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

impl LogConfig {
    /// Refuses words that would silence the log instead of setting its level.
    ///
    /// # Errors
    /// With the word.
    pub(super) fn check(&self) -> Result<()> {
        for word in self.level.split(',').map(str::trim) {
            // What stands in brackets selects spans, by fields that have an equals sign of their own.
            let after = word.rsplit(']').next().unwrap_or_default();
            let level = after.split_once('=').map_or(after, |(_, level)| level);
            let is_level = LEVELS.contains(&level.to_lowercase().as_str());
            ensure!(
                is_level || (word.contains('[') && after.is_empty()),
                "log.level {word:?} is no level; write one of {}, or part=level",
                LEVELS.join(", ")
            );
        }
        Ok(())
    }
}

impl MetricsConfig {
    /// Refuses what is no address.
    ///
    /// # Errors
    /// With the text.
    pub(super) fn check(&self) -> Result<()> {
        let is_address = self.listen.is_empty() || self.listen.parse::<SocketAddr>().is_ok();
        ensure!(
            is_address,
            "metrics.listen {:?} is no address; write one as 127.0.0.1:9464, or nothing",
            self.listen
        );
        Ok(())
    }
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is measured.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsConfig {
    /// Address of `/metrics`; empty switches it off.
    pub listen: String,
}
