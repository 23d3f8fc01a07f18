//! A reply, and its parts in the order in which they stand.

use bytes::Bytes;

use crate::Error;
use crate::wire::scan::{self, Broken, Item};

/// One reply of the server, whole and of a shape that was checked. Cheap to clone; slices of it
/// share its buffer, and with it that of the other replies that came in one go.
#[derive(Clone)]
pub struct Reply(Bytes);

/// One part of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Nothing.
    Nothing,
    /// A whole number.
    Number(i64),
    /// A text of any bytes.
    Text(&'a [u8]),
    /// So many parts follow that belong to it.
    List(usize),
    /// So many pairs follow: a name and a value each.
    Pairs(usize),
    /// An error in the place of an answer.
    Failed(Error),
}

/// Goes through a reply from its beginning.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    bytes: &'a [u8],
    at: usize,
}

// === impl Reply ===

impl Reply {
    /// Bytes that were measured.
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Reads the first reply in `bytes`, for tests; `None` when it is cut.
    ///
    /// # Errors
    /// When they are not the protocol.
    pub fn read(bytes: &Bytes) -> Result<Option<Self>, Error> {
        let place = scan::Scan::default().next(bytes).map_err(broken)?;
        Ok(place.map(|place| Self(bytes.slice(place))))
    }

    /// Its parts.
    pub fn parts(&self) -> Parts<'_> {
        Parts {
            bytes: &self.0,
            at: 0,
        }
    }

    /// A text of this reply as a slice that keeps the reply's buffer alive.
    pub fn share(&self, text: &[u8]) -> Bytes {
        self.0.slice_ref(text)
    }

    /// The error that stands in the place of an answer.
    pub(crate) fn answered(self) -> Result<Self, Error> {
        match self.0.first() {
            Some(b'-' | b'!') => match self.parts().next()? {
                Part::Failed(error) => Err(error),
                _ => Ok(self),
            },
            _ => Ok(self),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Shows its length, never what is in it: a reply may carry personal data.
impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reply of {} bytes", self.0.len())
    }
}

// === impl Parts ===

impl<'a> Parts<'a> {
    /// The next part.
    ///
    /// # Errors
    /// [`Error::Answer`] after the last one.
    #[expect(clippy::should_implement_trait, reason = "the end is an error here")]
    pub fn next(&mut self) -> Result<Part<'a>, Error> {
        let kind = self.bytes.get(self.at).copied();
        let kind = kind.ok_or_else(|| Error::answer("more parts than there are"))?;
        match scan::item(self.bytes, self.at).map_err(broken)? {
            Item::Leaf { end, text } => {
                self.at = end;
                // The text of `$-1` begins where it ends, behind its line.
                if kind == b'_' || text.start == end {
                    return Ok(Part::Nothing);
                }
                part(kind, self.bytes.get(text).unwrap_or_default())
            }
            Item::List { end, parts } => {
                let told = self.bytes.get(self.at + 1);
                self.at = end;
                match kind {
                    b'%' => Ok(Part::Pairs(parts / 2)),
                    b'|' => {
                        for _ in 1..parts {
                            self.skip()?;
                        }
                        self.next()
                    }
                    _ if told == Some(&b'-') => Ok(Part::Nothing),
                    _ => Ok(Part::List(parts)),
                }
            }
            Item::Cut { .. } => Err(Error::answer("a whole reply")),
        }
    }

    /// Passes over one part with everything in it.
    ///
    /// # Errors
    /// [`Error::Answer`] after the last one.
    pub fn skip(&mut self) -> Result<(), Error> {
        let mut left = 1_usize;
        while left > 0 {
            left -= 1;
            left += match self.next()? {
                Part::List(parts) => parts,
                Part::Pairs(pairs) => pairs * 2,
                Part::Nothing | Part::Number(_) | Part::Text(_) | Part::Failed(_) => 0,
            };
        }
        Ok(())
    }

    /// The parts of a list; a map counts each name and each value, nothing is an empty list.
    ///
    /// # Errors
    /// [`Error::Answer`] when it is none, or the error that stands there.
    pub fn list(&mut self) -> Result<usize, Error> {
        match self.next()? {
            Part::List(parts) => Ok(parts),
            Part::Pairs(pairs) => Ok(pairs * 2),
            Part::Nothing => Ok(0),
            Part::Failed(error) => Err(error),
            Part::Number(_) | Part::Text(_) => Err(Error::answer("a list")),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// [`Error::Answer`] when it is none, or the error that stands there.
    pub fn text(&mut self) -> Result<&'a [u8], Error> {
        match self.next()? {
            Part::Text(text) => Ok(text),
            Part::Failed(error) => Err(error),
            Part::Nothing | Part::Number(_) | Part::List(_) | Part::Pairs(_) => {
                Err(Error::answer("a text"))
            }
        }
    }
}

fn part(kind: u8, text: &[u8]) -> Result<Part<'_>, Error> {
    match kind {
        b':' => {
            let number = std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.parse().ok());
            number
                .map(Part::Number)
                .ok_or_else(|| Error::answer("a number"))
        }
        b'-' | b'!' => Ok(Part::Failed(Error::from_line(text))),
        // `txt:` and `mkd:` say how a text is meant.
        b'=' => Ok(Part::Text(text.get(4..).unwrap_or_default())),
        _ => Ok(Part::Text(text)),
    }
}

/// What came is not the protocol; the connection is of no use any more.
pub(crate) fn broken(broken: Broken) -> Error {
    Error::Connection {
        what: format!("the server does not speak the protocol: {broken}"),
    }
}
