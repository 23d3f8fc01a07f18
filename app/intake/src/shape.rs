//! Why a text was refused as to its shape: not JSON, too deep, nothing in it, a field of the wrong type.
//! A shape error is about the submission; what is wrong inside an item is the verdict's business.
//! It names a place and a rule, never the data.

use std::fmt;

/// Where in a text something stands: bytes from its start, and the item when it is inside one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// Number of the item, from 0, when the place is inside the list of items.
    pub item: Option<u32>,
    /// Bytes from the start of the text.
    pub byte: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.item {
            Some(item) => write!(f, "byte {} (in item {item})", self.byte),
            None => write!(f, "byte {}", self.byte),
        }
    }
}

/// Why a submission or a text was refused. `Display` never repeats the data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// The bytes are not UTF-8.
    #[error("the text is not UTF-8 at {0}")]
    NotUtf8(Place),
    /// The text is not JSON.
    #[error("the text is not JSON at {0}")]
    NotJson(Place),
    /// Containers are nested deeper than [`DEPTH_MAX`](crate::DEPTH_MAX).
    #[error("the text is nested too deeply at {0}")]
    TooDeep(Place),
    /// A key or a string holds U+0000, which no store of ours can keep.
    #[error("a string holds the character U+0000 at {0}")]
    NulCharacter(Place),
    /// A number that no double can hold, or that no store of ours can keep.
    #[error("a number is out of range at {0}")]
    NumberOutOfRange(Place),
    /// A string holds one half of a surrogate pair.
    #[error("a string holds a lone surrogate at {0}")]
    LoneSurrogate(Place),
    /// The body is JSON, but not an object.
    #[error("the body must be a JSON object")]
    BodyNotObject,
    /// One entry of `batches` or `datasets` is not an object.
    #[error("entry {part} of {list} must be an object")]
    PartNotObject {
        /// `batches` or `datasets`.
        list: &'static str,
        /// Number of the entry, from 0.
        part: usize,
    },
    /// There is nothing to judge. The sentence is part of the contract.
    #[error("{0}")]
    Empty(EmptyList),
    /// One entry of `batches` or `datasets` has nothing to judge.
    #[error("{empty} (entry {part} of {list})")]
    EmptyPart {
        /// Which list of the entry was empty.
        empty: EmptyList,
        /// `batches` or `datasets`.
        list: &'static str,
        /// Number of the entry, from 0.
        part: usize,
    },
    /// Something is wrong in one entry of `batches` or `datasets`.
    #[error("{error} (entry {part} of {list})")]
    InEntry {
        /// `batches` or `datasets`.
        list: &'static str,
        /// Number of the entry, from 0.
        part: usize,
        /// What is wrong.
        error: Box<ShapeError>,
    },
    /// `items` is neither an array nor an object, or `batches` or `datasets` is no array.
    #[error("the field {0} must be an array")]
    NotAList(&'static str),
    /// More items, batches or datasets than one submission may hold.
    #[error("{list} holds {got} entries, at most {max} are taken")]
    TooMany {
        /// `items`, `batches` or `datasets`.
        list: &'static str,
        /// How many were sent.
        got: usize,
        /// How many are taken.
        max: usize,
    },
    /// A field of the request is given twice: two readers could take different ones.
    #[error("the field {0} is given twice")]
    FieldRepeated(&'static str),
    /// The same of a field of a record that the rules look at.
    #[error("the field {field} of a record is given twice at {place}")]
    RecordFieldRepeated {
        /// Name of the field.
        field: &'static str,
        /// The second one.
        place: Place,
    },
    /// A field of the request is not a string.
    #[error("the field {0} must be a string")]
    FieldNotText(&'static str),
    /// A field of the request is not an object.
    #[error("the field {0} must be an object")]
    FieldNotObject(&'static str),
    /// A field of the request is too long.
    #[error("the field {field} is longer than {max} characters")]
    FieldTooLong {
        /// Name of the field.
        field: &'static str,
        /// Longest text that is taken, in characters.
        max: usize,
    },
    /// A field of the request holds none of the words it may hold.
    #[error("the field {field} must be one of {allowed}")]
    UnknownWord {
        /// Name of the field.
        field: &'static str,
        /// The words, separated by commas.
        allowed: &'static str,
    },
}

/// What is made of a field that is given twice, where we read the field: two readers could take
/// different ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeats {
    /// A client is told, and can mend it.
    Refused,
    /// What producers put on the bus, and what was taken before: the last one counts, as it always did.
    LastCounts,
}

/// Which list was empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmptyList {
    /// The items of a validation, or of one of its batches.
    Items,
    /// The batches of a batch validation.
    Batches,
    /// The items of an import.
    Import,
    /// The datasets of a bulk import.
    Datasets,
}

impl fmt::Display for EmptyList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Items => "No items provided for validation",
            Self::Batches => "No batches provided for validation",
            Self::Import => "No items provided for import",
            Self::Datasets => "No datasets provided for bulk import",
        })
    }
}

impl ShapeError {
    /// Stable code for machines, such as `json.depth` or `items.empty`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotUtf8(_) => "json.not_utf8",
            Self::NotJson(_) => "json.malformed",
            Self::TooDeep(_) => "json.depth",
            Self::NulCharacter(_) => "json.nul_character",
            Self::NumberOutOfRange(_) => "json.number_out_of_range",
            Self::LoneSurrogate(_) => "json.lone_surrogate",
            Self::BodyNotObject => "body.not_an_object",
            Self::PartNotObject { .. } => "part.not_an_object",
            Self::InEntry { error, .. } => error.code(),
            Self::Empty(_) | Self::EmptyPart { .. } => "items.empty",
            Self::NotAList(_) => "items.not_a_list",
            Self::TooMany { .. } => "items.too_many",
            Self::FieldRepeated(_) | Self::RecordFieldRepeated { .. } => "field.repeated",
            Self::FieldNotText(_) | Self::FieldNotObject(_) => "field.wrong_type",
            Self::FieldTooLong { .. } => "field.too_long",
            Self::UnknownWord { .. } => "field.unknown_word",
        }
    }

    /// Where the text went wrong; `None` for errors about a whole field or list.
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::NotUtf8(place)
            | Self::NotJson(place)
            | Self::TooDeep(place)
            | Self::NulCharacter(place)
            | Self::NumberOutOfRange(place)
            | Self::LoneSurrogate(place)
            | Self::RecordFieldRepeated { place, .. } => Some(*place),
            Self::InEntry { error, .. } => error.place(),
            Self::BodyNotObject
            | Self::PartNotObject { .. }
            | Self::Empty(_)
            | Self::EmptyPart { .. }
            | Self::NotAList(_)
            | Self::TooMany { .. }
            | Self::FieldRepeated(_)
            | Self::FieldNotText(_)
            | Self::FieldNotObject(_)
            | Self::FieldTooLong { .. }
            | Self::UnknownWord { .. } => None,
        }
    }

    /// The entry of `batches` or `datasets` that is refused, as a JSON pointer (RFC 6901); `None`
    /// where the body has no such entries, or no single one of them is to blame.
    pub fn entry(&self) -> Option<String> {
        match self {
            Self::PartNotObject { list, part }
            | Self::EmptyPart { list, part, .. }
            | Self::InEntry { list, part, .. } => Some(format!("/{list}/{part}")),
            _ => None,
        }
    }

    /// Never: the same text has the same shape tomorrow.
    pub fn is_retryable(&self) -> bool {
        false
    }

    /// The same error, seen from the text that holds `part` at `offset`.
    pub(crate) fn inside(mut self, offset: usize, item: Option<u32>) -> Self {
        if let Self::NotUtf8(place)
        | Self::NotJson(place)
        | Self::TooDeep(place)
        | Self::NulCharacter(place)
        | Self::NumberOutOfRange(place)
        | Self::LoneSurrogate(place)
        | Self::RecordFieldRepeated { place, .. } = &mut self
        {
            place.byte += offset;
            place.item = place.item.or(item);
        }
        self
    }

    /// The same error, seen from the body that has many parts.
    pub(crate) fn in_part(self, list: &'static str, part: usize) -> Self {
        match self {
            Self::Empty(empty) => Self::EmptyPart { empty, list, part },
            named @ (Self::PartNotObject { .. } | Self::EmptyPart { .. }) => named,
            other => Self::InEntry {
                list,
                part,
                error: Box::new(other),
            },
        }
    }

    /// What serde_json could not read of `text`.
    pub(crate) fn from_json(error: &serde_json::Error, text: &str) -> Self {
        let place = Place {
            item: None,
            byte: byte_of(text, error.line(), error.column()),
        };
        let said = error.to_string();
        if said.starts_with("number out of range") {
            Self::NumberOutOfRange(place)
        } else if said.starts_with("lone leading surrogate")
            || said.starts_with("unexpected end of hex")
        {
            Self::LoneSurrogate(place)
        } else if said.starts_with("recursion limit") {
            Self::TooDeep(place)
        } else {
            Self::NotJson(place)
        }
    }
}

/// Reads bytes as text.
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, ShapeError> {
    std::str::from_utf8(bytes).map_err(|error| {
        ShapeError::NotUtf8(Place {
            item: None,
            byte: error.valid_up_to(),
        })
    })
}

/// Bytes from the start of `whole` to the start of `part`, which must be a slice of it.
pub(crate) fn offset_in(whole: &str, part: &str) -> usize {
    (part.as_ptr() as usize)
        .saturating_sub(whole.as_ptr() as usize)
        .min(whole.len())
}

/// Turns serde_json's line and column (both from 1, columns in bytes) into a byte offset.
fn byte_of(text: &str, line: usize, column: usize) -> usize {
    let start = match line {
        0 | 1 => 0,
        _ => text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .nth(line - 2)
            .map_or(0, |(at, _)| at + 1),
    };
    (start + column.saturating_sub(1)).min(text.len())
}
