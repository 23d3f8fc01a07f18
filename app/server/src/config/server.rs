//! The process, its log and its metrics.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
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
    /// Threads of the runtime; 0 = as many as [`Cores`] says of the role.
    pub threads: usize,
}

/// The cores that a role has threads for unless the number is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cores {
    /// Every one.
    All,
    /// One is left to the bus and the store of the same machine, whose answers a worker waits for: what its
    /// threads share moves between cores, and costs more than the last thread brings.
    AllButOne,
}

// === impl ServerConfig ===

impl ServerConfig {
    /// Threads of the runtime.
    pub fn threads(&self, cores: Cores) -> usize {
        let there_are = std::thread::available_parallelism();
        match self.threads {
            0 => cores.count(there_are.map_or(1, NonZeroUsize::get)),
            set => set,
        }
    }
}

// === impl Cores ===

impl Cores {
    fn count(self, there_are: usize) -> usize {
        match self {
            Self::All => there_are,
            Self::AllButOne => (there_are - 1).max(1),
        }
    }
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

/// The words that are levels; the parser takes any other word for the name of a part.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

impl LogConfig {
    /// Refuses words that would silence the log instead of setting its level.
    ///
    /// # Errors
    /// With the word.
    pub(super) fn check(&self) -> Result<()> {
        for word in self.level.split(',').map(str::trim) {
            let is_level = LEVELS.contains(&word.to_lowercase().as_str());
            ensure!(
                is_level || word.contains('='),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_leaves_a_core_to_others_where_there_are_several() {
        assert_eq!(
            [1, 2, 3, 16].map(|it| Cores::AllButOne.count(it)),
            [1, 1, 2, 15]
        );
        assert_eq!([1, 2, 3, 16].map(|it| Cores::All.count(it)), [1, 2, 3, 16]);
    }
}
