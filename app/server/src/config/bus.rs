//! The bus.

use std::time::Duration;

use anyhow::Result;
use ratebox_kit::Secret;
use ratebox_stream::{Lanes, Retention, StreamName};
use ratebox_worker::AnswerStreams;
use serde::Deserialize;

/// The bus.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BusConfig {
    /// Address of Redis or Valkey; empty = SQLite.
    pub url: Secret,
    /// File that holds the address instead.
    pub url_file: String,
    /// Stream of the requests.
    pub stream: String,
    /// Consumer group of the workers.
    pub group: String,
    /// Name of this consumer.
    pub consumer: String,
    /// Answers to everyone but importers.
    pub extension_responses: String,
    /// Answers to importers.
    pub importer_responses: String,
    /// Streams that foreign producers may name for their answers.
    pub answer_streams_allowed: Vec<String>,
    /// Entries that an answer stream keeps.
    pub answers_max: u64,
    /// View of the dead letters.
    pub dead_letter_stream: String,
    /// Owner of what foreign producers send.
    pub foreign_owner: String,
    /// Milliseconds to wait for a connection.
    pub connect_timeout_ms: u64,
    /// Milliseconds to wait for an answer.
    pub response_timeout_ms: u64,
    /// Days that acknowledged entries are kept.
    pub retention_days: u64,
    /// Acknowledged entries that are kept.
    pub retention_entries: u64,
}

impl BusConfig {
    /// The address, from the setting or its file; `None` = embedded.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn address(&self) -> Result<Option<Secret>> {
        super::store::secret("bus.url_file", &self.url, &self.url_file)
    }

    /// The lanes of the requests.
    pub fn lanes(&self) -> Lanes {
        Lanes::of(&StreamName::new(&self.stream))
    }

    /// Where answers go.
    pub fn answers(&self) -> AnswerStreams {
        AnswerStreams {
            extension: self.extension_responses.clone(),
            importer: self.importer_responses.clone(),
            allowed: self.answer_streams_allowed.clone(),
        }
    }

    /// How long acknowledged entries are kept.
    pub fn retention(&self) -> Retention {
        Retention {
            max_age: Some(Duration::from_secs(self.retention_days * 86_400)),
            max_len: Some(self.retention_entries),
        }
    }
}
