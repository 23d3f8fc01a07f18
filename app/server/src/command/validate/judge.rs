//! Judges records that were read: pure, and safe to run on several threads.

use std::borrow::Cow;

use csv::ByteRecord;
use ratebox_intake::{Field, Finding, ITEMS_MAX, Item, Rules, decode, parse_validation};
use serde_json::{Map, Value};

use super::columns::Columns;
use super::source::{Raw, Record};
use super::summary::Summary;

/// Why a line is no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// A cell is not UTF-8.
    NotUtf8,
    /// More cells than the header has columns.
    TooManyCells,
    /// Longer than any record may be.
    TooLong,
    /// A quotation mark that nothing closes.
    Unclosed,
    /// No JSON, or JSON that no store keeps; in the words of the reader.
    Shape {
        /// Stable word.
        slug: &'static str,
        /// For people, without the data.
        message: String,
    },
}

// === impl Malformed ===

impl Malformed {
    /// Stable word for machines.
    pub(super) fn slug(&self) -> &'static str {
        match self {
            Self::NotUtf8 => "line.not_utf8",
            Self::TooManyCells => "line.too_many_cells",
            Self::TooLong => "line.too_long",
            Self::Unclosed => "line.quote_not_closed",
            Self::Shape { slug, .. } => slug,
        }
    }

    /// A sentence for people.
    pub(super) fn message(&self) -> Cow<'_, str> {
        match self {
            Self::NotUtf8 => "the line is not UTF-8".into(),
            Self::TooManyCells => "the line has more cells than the header has columns".into(),
            Self::TooLong => {
                "the line is longer than 1 MiB; is a quotation mark not closed?".into()
            }
            Self::Unclosed => {
                "a quotation mark in the line is not closed; nothing after it was read".into()
            }
            Self::Shape { message, .. } => message.into(),
        }
    }
}

impl From<ratebox_intake::ShapeError> for Malformed {
    fn from(error: ratebox_intake::ShapeError) -> Self {
        Self::Shape {
            slug: error.code(),
            message: error.to_string(),
        }
    }
}

/// A record that failed, for the report.
#[derive(Debug)]
pub(super) struct Failure {
    /// Where it begins, from 1.
    pub(super) line: u64,
    /// As it was read.
    pub(super) original: Original,
    /// What is wrong with it.
    pub(super) why: Why,
}

/// A record as it was read.
#[derive(Debug)]
pub(super) enum Original {
    /// A row of a CSV file.
    Cells(ByteRecord),
    /// The JSON of an item.
    Item(String),
    /// A line that is no JSON.
    Text(Vec<u8>),
}

/// What is wrong with a record.
#[derive(Debug)]
pub(super) enum Why {
    /// Violated rules.
    Errors(Vec<Finding>),
    /// It is no record.
    Malformed(Malformed),
}

/// What became of a chunk.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// Its figures.
    pub(super) summary: Summary,
    /// Its failures in order; empty when nobody wants them.
    pub(super) failures: Vec<Failure>,
    keep: bool,
}

/// Judges a chunk; keeps the failures when they are wanted.
pub(super) fn judge(
    chunk: Vec<Record>,
    columns: Option<&Columns>,
    rules: &Rules,
    keep: bool,
) -> Judged {
    let mut judged = Judged {
        keep,
        ..Judged::default()
    };
    let mut json = Vec::new();
    for Record { line, raw } in chunk {
        match (raw, columns) {
            (Raw::Cells(row), Some(columns)) => {
                let read = columns.item(&row, &mut json);
                match read.and_then(|()| Ok(Item::parse(&json)?)) {
                    Ok(item) => judged.verdict(line, rules, &item, || Original::Cells(row)),
                    Err(why) => judged.malformed(line, Original::Cells(row), why),
                }
            }
            (Raw::Line(text), _) => match items(&text) {
                Ok(items) => {
                    for item in items {
                        let original = || Original::Item(item.json().to_owned());
                        judged.verdict(line, rules, &item, original);
                    }
                }
                Err(why) => judged.malformed(line, Original::Text(text), why),
            },
            (Raw::Unclosed, _) => {
                judged.malformed(line, Original::Text(Vec::new()), Malformed::Unclosed);
            }
            (Raw::TooLong | Raw::Cells(_), _) => {
                judged.malformed(line, Original::Text(Vec::new()), Malformed::TooLong);
            }
        }
    }
    judged
}

impl Judged {
    fn verdict(
        &mut self,
        line: u64,
        rules: &Rules,
        item: &Item,
        original: impl FnOnce() -> Original,
    ) {
        let verdict = rules.judge(item);
        self.summary.verdict(&verdict);
        if self.keep && !verdict.errors.is_empty() {
            let (original, why) = (original(), Why::Errors(verdict.errors));
            self.failures.push(Failure {
                line,
                original,
                why,
            });
        }
    }

    fn malformed(&mut self, line: u64, original: Original, why: Malformed) {
        self.summary.malformed(line, why.slug());
        if self.keep {
            self.failures.push(Failure {
                line,
                original,
                why: Why::Malformed(why),
            });
        }
    }
}

/// The items of a line: itself, or those of a message that was written down as a line.
fn items(line: &[u8]) -> Result<Vec<Item>, Malformed> {
    let item = Item::parse_at_door(line)?;
    let known = [item.phone(), item.bank_account(), item.email(), item.name()];
    if item.not_object().is_none() && known.iter().all(|field| *field == Field::Absent) {
        return Ok(message(line).unwrap_or_else(|| vec![item]));
    }
    Ok(vec![item])
}

/// The items of a message: an envelope, an entry of a stream as an object of its fields, or the body
/// of a request.
fn message(line: &[u8]) -> Option<Vec<Item>> {
    let object: Map<String, Value> = serde_json::from_slice(line).ok()?;
    if object.contains_key("items") && !object.contains_key("data") {
        return parse_validation(line, ITEMS_MAX)
            .ok()
            .map(|body| body.items);
    }
    let fields = match object.get("data")? {
        Value::String(_) => object
            .into_iter()
            .map(|(name, value)| match value {
                Value::String(text) => (name, text.into_bytes()),
                other => (name, other.to_string().into_bytes()),
            })
            .collect(),
        _ => vec![("data".to_owned(), line.to_vec())],
    };
    decode(&fields, ITEMS_MAX).ok().map(|decoded| decoded.items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Judged {
        let records = texts.iter().zip(1..).map(|(text, line)| Record {
            line,
            raw: Raw::Line(text.as_bytes().to_vec()),
        });
        judge(records.collect(), None, &Rules::default(), true)
    }

    #[test]
    fn messages_of_the_three_older_shapes_are_judged_as_their_items() {
        let shipped = include_str!("../../../../../examples/legacy.ndjson");
        let judged = lines(&shipped.lines().collect::<Vec<_>>());
        assert_eq!(judged.summary.records(), shipped.lines().count() as u64);
        // Without reading the message, phone and account would be missing everywhere.
        assert!(judged.summary.done() > 0);
    }

    /// As over HTTP: the verdict would be about one of two numbers.
    #[test]
    fn a_line_that_gives_a_field_twice_is_malformed() {
        let judged = lines(&[
            r#"{"phone":"1","phone":"0912345678"}"#,
            r#"{"x":1,"x":2,"phone":"1"}"#,
        ]);
        let malformed = |it: &Failure| matches!(it.why, Why::Malformed(_));
        let told: Vec<bool> = judged.failures.iter().map(malformed).collect();
        assert_eq!(told, [true, false]);
    }

    #[test]
    fn an_envelope_is_judged_item_by_item() {
        let good = r#"{"phone":"0912345678","bank_account":"12345678901"}"#;
        let judged = lines(&[&format!(r#"{{"v":1,"data":{{"items":[{good},{{}}]}}}}"#)]);
        assert_eq!((judged.summary.done(), judged.summary.failed()), (1, 1));
        let judged = lines(&[&format!(r#"{{"items":[{good},{good},{{}}]}}"#)]);
        assert_eq!((judged.summary.done(), judged.summary.failed()), (2, 1));
    }

    #[test]
    fn lines_that_are_no_json_are_counted_and_kept() {
        let judged = lines(&["{\"phone\":", "[1]", r#"{"phone":"\u0000"}"#]);
        // A JSON value that is no object has a verdict: 500.
        assert_eq!((judged.summary.records(), judged.summary.failed()), (1, 3));
        let slugs = judged.failures.iter().filter_map(|it| match &it.why {
            Why::Malformed(why) => Some(why.slug()),
            Why::Errors(_) => None,
        });
        assert_eq!(
            slugs.collect::<Vec<_>>(),
            ["json.malformed", "json.nul_character"]
        );
    }
}
