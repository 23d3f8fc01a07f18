//! Why the fields of an entry are no message. Such an entry never becomes one: it goes to the dead letters at once.

use crate::shape::ShapeError;

/// Why an entry cannot be read. `Display` never repeats the data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A field is not UTF-8.
    #[error("a field of the entry is not UTF-8")]
    NotUtf8,
    /// There is neither a message nor a field of an item.
    #[error("the entry holds no message and no item")]
    NoMessage,
    /// The message is JSON, but no object.
    #[error("the message must be a JSON object")]
    NotObject,
    /// The message, or an item in it, cannot be read.
    #[error("the message cannot be read: {0}")]
    Shape(ShapeError),
    /// The version is none that this program knows, or no number.
    #[error("the version of the message is not known")]
    UnknownVersion,
    /// There is no item in it.
    #[error("the message holds no items")]
    NoItems,
    /// A field that decides how the items are treated holds an unknown word.
    #[error("the field {0} of the message holds an unknown word")]
    UnknownWord(&'static str),
    /// A message that should be our own has no usable ids.
    #[error("the message has no request id or owner of ours")]
    NotOurs,
}

impl Malformed {
    /// Stable word for machines.
    pub fn slug(&self) -> &'static str {
        match self {
            Self::NotUtf8 => "entry.not_utf8",
            Self::NoMessage => "entry.no_message",
            Self::NotObject => "message.not_an_object",
            Self::Shape(error) => error.code(),
            Self::UnknownVersion => "message.unknown_version",
            Self::NoItems => "message.no_items",
            Self::UnknownWord(_) => "message.unknown_word",
            Self::NotOurs => "message.not_ours",
        }
    }

    /// Never: the same bytes stay malformed.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

impl From<ShapeError> for Malformed {
    fn from(error: ShapeError) -> Self {
        Self::Shape(error)
    }
}
