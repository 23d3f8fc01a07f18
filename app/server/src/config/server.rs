//! The process, its log and its metrics.

use std::net::SocketAddr;
use std::path::PathBuf;

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
