//! The name of a field: cheap to clone, and without a buffer of its own where it is a usual one.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::field;

/// The name of a field of an [`crate::Entry`]. Reads like a `str`.
///
/// Every entry of a stream has the same few names, so they are shared and not copied.
#[derive(Clone)]
pub struct FieldName(Name);

#[derive(Clone)]
enum Name {
    Usual(&'static str),
    Other(Arc<str>),
}

/// Names that this crate and the producers in the field write.
const USUAL: [&str; 16] = [
    field::DATA,
    field::ID,
    field::ATTEMPT,
    field::FIRST_ENTRY,
    field::GROUP,
    field::FIRST_FAILED,
    "source",
    "owner",
    "key",
    "id",
    "timestamp",
    "producer",
    "batch_id",
    "sequence",
    "traceparent",
    "priority",
];

// === impl FieldName ===

impl FieldName {
    /// The text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Name::Usual(name) => name,
            Name::Other(name) => name,
        }
    }

    /// One of the usual names, which costs nothing.
    pub(crate) fn usual(name: &[u8]) -> Option<Self> {
        let usual = USUAL.iter().find(|usual| usual.as_bytes() == name);
        usual.map(|usual| Self(Name::Usual(usual)))
    }
}

impl From<&str> for FieldName {
    fn from(name: &str) -> Self {
        Self::usual(name.as_bytes()).unwrap_or_else(|| Self(Name::Other(Arc::from(name))))
    }
}

impl From<String> for FieldName {
    fn from(name: String) -> Self {
        Self::from(name.as_str())
    }
}

impl From<FieldName> for String {
    fn from(name: FieldName) -> Self {
        name.as_str().to_owned()
    }
}

impl Deref for FieldName {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for FieldName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Eq for FieldName {}

impl PartialEq for FieldName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl PartialEq<str> for FieldName {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for FieldName {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialEq<String> for FieldName {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_name_and_another_read_alike() {
        for text in ["data", "rb-id", "something else", ""] {
            let (name, owned) = (FieldName::from(text), text.to_owned());
            let same = FieldName::from(owned.clone());
            assert!(name == text && name == owned && name == same);
            assert_eq!(
                (name.len(), name.to_string()),
                (text.len(), text.to_owned())
            );
            assert_eq!(format!("{name:?}"), format!("{text:?}"));
        }
        assert!(FieldName::usual(b"data").is_some() && FieldName::usual(b"dat").is_none());
    }
}
