//! What travels between the parts: an id, headers and bytes.

use bytes::Bytes;

use crate::fields::{self, Fields};

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

/// The header that says that a body is an entry's fields.
const VERBATIM: &str = "rb-verbatim";

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

    /// A message that is an entry's fields as they were: a replay, whose names and bytes must not
    /// change on the way. Only a broker whose topics are streams can deliver it as such.
    pub fn verbatim(id: impl Into<String>, fields: &[(String, Bytes)]) -> Self {
        Self::new(id, fields::encode_all(fields)).with_header(VERBATIM, "1")
    }

    /// The fields of a message that was made by [`Message::verbatim`].
    pub fn verbatim_fields(&self) -> Option<Fields> {
        self.header(VERBATIM)?;
        fields::decode(self.body.clone()).ok()
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
