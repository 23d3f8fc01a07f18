//! What travels between the parts: an id, headers and bytes.

use bytes::Bytes;

/// Identifies a message over retries, replays and re-publication: the key of the inbox.
///
/// Ours are UUIDs; a foreign producer's entry gets one derived from its stream and entry id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub String);

impl std::fmt::Display for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A message on its way to a stream or a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Stable over every delivery of the same fact.
    pub id: MessageId,
    /// Names and values that travel beside the body; never personal data.
    pub headers: Vec<(String, String)>,
    /// The body; its format is the sender's and the receiver's business.
    pub body: Bytes,
}

impl Message {
    /// A message without headers.
    pub fn new(id: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            id: MessageId(id.into()),
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// Adds one header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The value of a header, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}
