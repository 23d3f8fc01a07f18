//! The bodies of the HTTP interface: one request, a batch of them, or datasets to import.
//! A body is taken whole or not at all as to its shape; what is inside an item is the verdict's business. That
//! a field is given twice is shape: the verdict would be about one of two values, and nobody knows which the
//! client's other readers take.

mod cut;
mod terms;

use serde_json::value::RawValue;
use uuid::Uuid;

use crate::item::Item;
use crate::object::{self, Object};
use crate::request::Request;
use crate::shape::{EmptyList, Repeats, ShapeError, utf8};

pub use cut::{Cut, Part};
pub use terms::Terms;

/// One request as a client sent it: its items, and what it says about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The records, in order; at least one.
    pub items: Vec<Item>,
    /// Everything else.
    pub terms: Terms,
}

impl Submission {
    /// Makes it a request. What the client left open is taken from `defaults`, and then from the defaults of the types.
    pub fn into_request(
        self,
        request_id: Uuid,
        owner: impl Into<String>,
        defaults: &Terms,
    ) -> Request {
        let terms = self.terms.or(defaults);
        Request {
            action: terms.action.unwrap_or_default(),
            items: self.items,
            lane: terms.lane.unwrap_or_default(),
            profile: terms.profile,
            external_ref: terms.external_ref,
            batch_id: terms.batch_id,
            key: terms.key,
            client_timestamp: terms.client_timestamp,
            webhook_url: terms.webhook_url,
            ..Request::new(
                request_id,
                owner,
                terms.source.unwrap_or_else(|| "api".to_owned()),
            )
        }
    }
}

/// Reads the body of a validation: `{items: […] | {…}, …}`, or one bare item. An object without
/// `items` is an item, and then none of its fields says anything about the request.
///
/// # Errors
/// A [`ShapeError`]; at most `items_max` items are taken.
pub fn parse_validation(body: &[u8], items_max: usize) -> Result<Submission, ShapeError> {
    single(body, items_max, EmptyList::Items)
}

/// Reads the body of an import; the same shape as a validation.
///
/// # Errors
/// A [`ShapeError`]; at most `items_max` items are taken.
pub fn parse_import(body: &[u8], items_max: usize) -> Result<Submission, ShapeError> {
    single(body, items_max, EmptyList::Import)
}

/// Reads the body of a batch validation, `{batches: [{id, items, …}], defaults?}`: one submission a batch,
/// with the batch's id as its `batch_id`.
///
/// # Errors
/// A [`ShapeError`]; at most `items_max` items a batch, and as many batches, are taken.
pub fn parse_batch(body: &[u8], items_max: usize) -> Result<Vec<Submission>, ShapeError> {
    let parts = Parts {
        list: "batches",
        max: items_max,
        empty: EmptyList::Batches,
        empty_part: EmptyList::Items,
        repeats: Repeats::Refused,
    };
    many(body, items_max, &parts)
}

/// Reads the body of a bulk import, `{datasets: [{id, source?, items, …}], defaults?}`: one submission a dataset,
/// with the dataset's id as its `batch_id`.
///
/// # Errors
/// A [`ShapeError`]; at most `items_max` items in all, and `datasets_max` datasets, are taken.
pub fn parse_bulk(
    body: &[u8],
    datasets_max: usize,
    items_max: usize,
) -> Result<Vec<Submission>, ShapeError> {
    let parts = datasets(datasets_max, Repeats::Refused);
    let datasets = many(body, items_max, &parts)?;
    let got = datasets.iter().map(|it| it.items.len()).sum();
    if got > items_max {
        return Err(ShapeError::TooMany {
            list: "items",
            got,
            max: items_max,
        });
    }
    Ok(datasets)
}

/// Reads the body of a bulk import again that was taken before, be it by an earlier release: what has
/// been refused only since is read as it was read then, so that it makes the same requests.
///
/// # Errors
/// A [`ShapeError`] when it never was a body of a bulk import.
pub fn parse_taken_bulk(body: &[u8]) -> Result<Vec<Submission>, ShapeError> {
    // It was within the limits when it was taken.
    let parts = datasets(usize::MAX, Repeats::LastCounts);
    many(body, usize::MAX, &parts)
}

fn datasets(max: usize, repeats: Repeats) -> Parts {
    Parts {
        list: "datasets",
        max,
        empty: EmptyList::Datasets,
        empty_part: EmptyList::Import,
        repeats,
    }
}

fn single(body: &[u8], items_max: usize, empty: EmptyList) -> Result<Submission, ShapeError> {
    let text = utf8(body)?;
    let object = Object::read(text, text)?.ok_or(ShapeError::BodyNotObject)?;
    if object.has("items") {
        terms::check_repeats(&object, Repeats::Refused)?;
        let items = some_items(&object, items_max, empty, Repeats::Refused)?;
        return Ok(Submission {
            items,
            terms: Terms::read(&object)?,
        });
    }
    if object.is_empty() || items_max == 0 {
        return Err(ShapeError::Empty(empty));
    }
    Ok(Submission {
        items: vec![Item::from_text(text, Repeats::Refused)?],
        terms: Terms::default(),
    })
}

/// What the two bodies with several requests differ in.
struct Parts {
    list: &'static str,
    /// Entries of the list at most.
    max: usize,
    empty: EmptyList,
    empty_part: EmptyList,
    repeats: Repeats,
}

fn many(body: &[u8], items_max: usize, parts: &Parts) -> Result<Vec<Submission>, ShapeError> {
    let text = utf8(body)?;
    let object = Object::read(text, text)?.ok_or(ShapeError::BodyNotObject)?;
    terms::check_repeats(&object, parts.repeats)?;
    let list = object
        .get(&[parts.list])
        .ok_or(ShapeError::Empty(parts.empty))?;
    let values = object::elements(list).ok_or(ShapeError::NotAList(parts.list))?;
    if values.is_empty() {
        return Err(ShapeError::Empty(parts.empty));
    }
    if values.len() > parts.max {
        return Err(ShapeError::TooMany {
            list: parts.list,
            got: values.len(),
            max: parts.max,
        });
    }
    let defaults = defaults(&object, parts.repeats)?;
    values
        .into_iter()
        .enumerate()
        .map(|(number, value)| {
            part(number, value, text, items_max, parts)
                .map(|part| with(part, &defaults))
                .map_err(|error| error.in_part(parts.list, number))
        })
        .collect()
}

fn defaults(object: &Object<'_>, repeats: Repeats) -> Result<Terms, ShapeError> {
    let Some(value) = object.get(&["defaults"]) else {
        return Ok(Terms::default());
    };
    let defaults = Object::read(value.get(), object.whole())?;
    let defaults = defaults.ok_or(ShapeError::FieldNotObject("defaults"))?;
    terms::check_repeats(&defaults, repeats)?;
    Terms::read(&defaults)
}

fn part(
    number: usize,
    value: &RawValue,
    text: &str,
    items_max: usize,
    parts: &Parts,
) -> Result<Submission, ShapeError> {
    let object = Object::read(value.get(), text)?.ok_or(ShapeError::PartNotObject {
        list: parts.list,
        part: number,
    })?;
    terms::check_repeats(&object, parts.repeats)?;
    let items = some_items(&object, items_max, parts.empty_part, parts.repeats)?;
    let mut terms = Terms::read(&object)?;
    terms.batch_id = terms::part_id(&object)?.or(terms.batch_id);
    Ok(Submission { items, terms })
}

fn with(mut part: Submission, defaults: &Terms) -> Submission {
    part.terms = part.terms.or(defaults);
    part
}

fn some_items(
    object: &Object<'_>,
    max: usize,
    empty: EmptyList,
    repeats: Repeats,
) -> Result<Vec<Item>, ShapeError> {
    let value = object.get(&["items"]).ok_or(ShapeError::Empty(empty))?;
    let items = object::items(value, object.whole(), max, repeats)?;
    if items.is_empty() {
        Err(ShapeError::Empty(empty))
    } else {
        Ok(items)
    }
}
