//! Where a request is on the bus, as clients carry it around.

use std::fmt;

use ratebox_kit::Decimal;
use ratebox_stream::{EntryId, Lanes, StreamName};

/// A stream and an entry in it, written `stream/id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryRef {
    pub(crate) stream: StreamName,
    pub(crate) id: EntryId,
}

impl EntryRef {
    /// Reads one, if its stream is one of these lanes: a client must not look elsewhere.
    pub(crate) fn parse(text: &str, lanes: &Lanes) -> Option<Self> {
        let (stream, id) = text.rsplit_once('/')?;
        let lane = lanes.lane_of(stream)?;
        Some(Self {
            stream: lanes.stream(lane).clone(),
            id: id.parse().ok()?,
        })
    }

    /// Appends it for the query of a URL.
    pub(crate) fn push_query(&self, query: &mut String) {
        for byte in self.stream.as_str().bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
                query.push(char::from(byte));
            } else {
                query.push_str(&format!("%{byte:02X}"));
            }
        }
        query.push('/');
        query.push_str(Decimal::of(self.id.ms).as_str());
        query.push('-');
        query.push_str(Decimal::of(self.id.seq).as_str());
    }
}

impl fmt::Display for EntryRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.stream, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_entries_of_the_lanes_are_read() {
        let lanes = Lanes::of(&StreamName::new("validation_requests"));
        for stream in ["validation_requests", "{validation_requests}:low"] {
            let text = format!("{stream}/1700000000000-3");
            let entry = EntryRef::parse(&text, &lanes).unwrap();
            assert_eq!(entry.to_string(), text);
        }
        for bad in [
            "",
            "secrets/1-1",
            "validation_requests/x",
            "validation_requests",
        ] {
            assert_eq!(EntryRef::parse(bad, &lanes), None, "{bad}");
        }
    }

    #[test]
    fn braces_are_escaped_in_a_query() {
        let lanes = Lanes::of(&StreamName::new("r"));
        let entry = EntryRef::parse("{r}:low/5-0", &lanes).unwrap();
        let mut query = String::new();
        entry.push_query(&mut query);
        assert_eq!(query, "%7Br%7D:low/5-0");
    }
}
