//! One record to judge: its JSON text, kept as it came, and the fields that the rules look at.
//! Made by `Item::parse`, in one pass. The text is never changed and never shown by `Debug`.

use std::fmt;

use serde_json::value::RawValue;

use crate::shape::{Repeats, ShapeError, utf8};
use crate::strict::{self, Found, KNOWN, Slot};

/// What may stand around a JSON value (RFC 8259, section 2).
const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// The kinds of JSON values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JsonKind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl JsonKind {
    /// The kind as one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "boolean",
            Self::Number => "number",
            Self::String => "string",
            Self::Array => "array",
            Self::Object => "object",
        }
    }
}

/// What stands in a known field of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// Not there, or `null`.
    Absent,
    /// A string, possibly empty.
    Text(&'a str),
    /// Something that is no string.
    WrongType(JsonKind),
}

impl<'a> Field<'a> {
    /// The text, if there is one.
    pub fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Absent | Self::WrongType(_) => None,
        }
    }

    /// The field, with an empty text read as absent.
    fn unless_empty(self) -> Self {
        if self == Self::Text("") {
            Self::Absent
        } else {
            self
        }
    }
}

/// One record, verbatim, with its known fields found. When a key is repeated, its last value counts.
#[derive(Clone)]
pub struct Item {
    text: Box<str>,
    content: Content,
}

#[derive(Clone)]
enum Content {
    /// Phone, bank account, e-mail, name, and the bank's name.
    Fields([Slot; KNOWN]),
    NotObject(JsonKind),
}

impl Item {
    /// Reads one JSON value as an item. Something that is no object becomes an item too; its verdict says so (500).
    ///
    /// # Errors
    /// A [`ShapeError`] when the text is not JSON that every store can keep.
    pub fn parse(json: &[u8]) -> Result<Self, ShapeError> {
        Self::from_text(utf8(json)?, Repeats::LastCounts)
    }

    /// The same of what a client or a user can still mend: a field that the rules look at may not be
    /// given twice.
    ///
    /// # Errors
    /// A [`ShapeError`] when the text is not JSON that every store can keep, or gives a field twice.
    pub fn parse_at_door(json: &[u8]) -> Result<Self, ShapeError> {
        Self::from_text(utf8(json)?, Repeats::Refused)
    }

    /// Reads an item from a value that was cut out of a larger text. Places count from the value's start.
    pub(crate) fn from_raw(raw: &RawValue, repeats: Repeats) -> Result<Self, ShapeError> {
        Self::from_text(raw.get(), repeats)
    }

    /// Reads an item from its text.
    pub(crate) fn from_text(whole: &str, repeats: Repeats) -> Result<Self, ShapeError> {
        let text = whole.trim_matches(BLANKS);
        let found = strict::read(text, repeats)
            .map_err(|error| error.inside(crate::shape::offset_in(whole, text), None))?;
        Ok(Self {
            text: text.into(),
            content: match found {
                Found::Object(fields) => Content::Fields(fields),
                Found::NotObject(kind) => Content::NotObject(kind),
            },
        })
    }

    /// The JSON text as it came.
    pub fn json(&self) -> &str {
        &self.text
    }

    /// The kind of value, when it is no object.
    pub fn not_object(&self) -> Option<JsonKind> {
        match self.content {
            Content::Fields(_) => None,
            Content::NotObject(kind) => Some(kind),
        }
    }

    /// The field `phone`; an empty text is kept.
    pub fn phone(&self) -> Field<'_> {
        self.field(0)
    }

    /// The field `bank_account`; an empty text is kept.
    pub fn bank_account(&self) -> Field<'_> {
        self.field(1)
    }

    /// The field `email`; an empty text is absent.
    pub fn email(&self) -> Field<'_> {
        self.field(2).unless_empty()
    }

    /// The field `name`; an empty text is present.
    pub fn name(&self) -> Field<'_> {
        self.field(3)
    }

    /// The name of the bank, from `bank`, `bank_name` or `bank_code`: a hint, never an error.
    pub fn bank(&self) -> Option<&str> {
        self.field(4).text()
    }

    fn field(&self, at: usize) -> Field<'_> {
        let Content::Fields(slots) = &self.content else {
            return Field::Absent;
        };
        match slots.get(at) {
            None | Some(Slot::Absent) => Field::Absent,
            Some(Slot::Span(span)) => Field::Text(self.text.get(span.clone()).unwrap_or_default()),
            Some(Slot::Owned(text)) => Field::Text(text),
            Some(Slot::Wrong(kind)) => Field::WrongType(*kind),
        }
    }
}

impl fmt::Debug for Item {
    /// Shows the size only: an item is personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Item({} bytes)", self.json().len())
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.json() == other.json()
    }
}

impl Eq for Item {}
