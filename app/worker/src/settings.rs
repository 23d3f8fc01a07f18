//! What a worker is told.

use ratebox_intake::Rules;

/// Where answers go.
#[derive(Clone, Debug)]
pub struct AnswerStreams {
    /// Answers to everyone but importers.
    pub extension: String,
    /// Answers to the source `importer`.
    pub importer: String,
    /// Streams that a foreign producer may name for its answers.
    pub allowed: Vec<String>,
}

impl Default for AnswerStreams {
    fn default() -> Self {
        Self {
            extension: "extension_responses".to_owned(),
            importer: "importer_responses".to_owned(),
            allowed: Vec::new(),
        }
    }
}

/// How a worker judges and answers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The stream that it reads, for statistics and the inbox.
    pub stream: String,
    /// The consumer group.
    pub group: String,
    /// This consumer.
    pub consumer: String,
    /// Rules where neither request nor token asks for others.
    pub rules: Rules,
    /// Owner of what foreign producers send.
    pub foreign_owner: String,
    /// Where answers go.
    pub answers: AnswerStreams,
}
