//! The three shapes that producers in the field still send. Nothing in them says which profile is wanted,
//! and an unknown action is a validation.

use serde::Serializer;

use super::decode::{Fields, common, is_header, scalar, without_nul};
use super::{DATA_FIELD, Decoded, Malformed, Shape};
use crate::action::Action;
use crate::item::Item;
use crate::lane::Lane;
use crate::moment;
use crate::object::Object;
use crate::request::{REFERENCE_CHARS_MAX, SOURCE_CHARS_MAX};
use crate::shape::utf8;

/// Fields that only the extension's messages have.
pub(super) const MARKS: [&str; 5] = [
    "action",
    "callback_stream",
    "request_id",
    "user_id",
    "session_id",
];

/// Fields of which an entry without `data` has at least one.
const ITEM_FIELDS: [&str; 4] = ["phone", "bank_account", "email", "name"];

/// `data` is one item; the flat fields beside it say where it comes from, else the item does.
pub(super) fn item(
    text: &str,
    object: &Object<'_>,
    fields: &Fields<'_>,
) -> Result<Decoded, Malformed> {
    let mut decoded = beside(fields, Shape::LegacyItem);
    decoded.items = vec![Item::parse(text.as_bytes())?];
    if decoded.source.is_none() {
        decoded.source = scalar(object, &["source"], SOURCE_CHARS_MAX)?;
    }
    if decoded.batch_id.is_none() {
        decoded.batch_id = scalar(object, &["batch_id"], REFERENCE_CHARS_MAX)?;
    }
    Ok(decoded)
}

/// The flat fields are the item; what they say about its origin stays in it as well.
pub(super) fn flat(fields: &Fields<'_>) -> Result<Decoded, Malformed> {
    if !ITEM_FIELDS.iter().any(|name| fields.has(name)) {
        return Err(Malformed::NoMessage);
    }
    let mut pairs = Vec::with_capacity(fields.0.len());
    for (name, value) in fields.0.iter().filter(|(name, _)| !is_header(name)) {
        let value = utf8(value).map_err(|_| Malformed::NotUtf8)?;
        pairs.push((without_nul(name)?, without_nul(value)?));
    }
    let mut json = Vec::new();
    serde_json::Serializer::new(&mut json)
        .collect_map(pairs)
        .expect("strings are always written to memory");
    let mut decoded = beside(fields, Shape::LegacyFlat);
    decoded.items = vec![Item::parse(&json)?];
    Ok(decoded)
}

/// The extension's message: one item under `data`, with the rest around it in JSON, or flat beside it.
pub(super) fn extension(
    text: &str,
    object: &Object<'_>,
    fields: &Fields<'_>,
) -> Result<Decoded, Malformed> {
    let nested = object
        .get(&[DATA_FIELD])
        .filter(|_| MARKS.iter().any(|mark| object.has(mark)));
    let Some(nested) = nested else {
        let mut decoded = beside(fields, Shape::LegacyExtension);
        decoded.action = action(fields.text("action", REFERENCE_CHARS_MAX).as_deref());
        decoded.items = vec![Item::parse(text.as_bytes())?];
        return Ok(decoded);
    };
    let mut decoded = common(object, Shape::LegacyExtension)?;
    decoded.echo_id = None;
    decoded.action = action(scalar(object, &["action"], REFERENCE_CHARS_MAX)?.as_deref());
    decoded.items = vec![Item::parse(nested.get().as_bytes())?];
    Ok(decoded)
}

/// What the flat fields say about the request.
fn beside(fields: &Fields<'_>, shape: Shape) -> Decoded {
    let lane = fields.text("priority", REFERENCE_CHARS_MAX);
    let timestamp = fields.text("timestamp", REFERENCE_CHARS_MAX);
    let scraped_at = || fields.text("scraped_at", REFERENCE_CHARS_MAX);
    Decoded {
        request_id_given: fields.text("request_id", REFERENCE_CHARS_MAX),
        owner_given: fields.text("user_id", REFERENCE_CHARS_MAX),
        source: fields.text("source", SOURCE_CHARS_MAX),
        lane: lane
            .as_deref()
            .and_then(Lane::from_word)
            .unwrap_or_default(),
        external_ref: fields.text("external_ref", REFERENCE_CHARS_MAX),
        batch_id: fields.text("batch_id", REFERENCE_CHARS_MAX),
        timestamp: timestamp
            .or_else(scraped_at)
            .and_then(|text| moment::read(&text)),
        callback_stream: fields.text("callback_stream", REFERENCE_CHARS_MAX),
        ..Decoded::new(shape)
    }
}

/// The extension's `rate_check` asks what is thought of a person: it is answered and not kept.
fn action(word: Option<&str>) -> Action {
    match word {
        Some("rate_check") => Action::Check,
        Some(word) => Action::from_word(word).unwrap_or_default(),
        None => Action::default(),
    }
}
