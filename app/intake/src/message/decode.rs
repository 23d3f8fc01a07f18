//! Reads the fields of an entry: finds out which shape they have, and reads our own envelope.
//! The older shapes are in `legacy`.

use serde_json::value::RawValue;

use super::{DATA_FIELD, Decoded, Malformed, Shape, VERSION, legacy};
use crate::action::Action;
use crate::item::Item;
use crate::lane::Lane;
use crate::moment;
use crate::object::{self, Object};
use crate::profile::Profile;
use crate::request::{REFERENCE_CHARS_MAX, SOURCE_CHARS_MAX, URL_CHARS_MAX};
use crate::shape::{Place, Repeats, ShapeError, utf8};

/// Names of fields beside the message that are never part of an item.
pub(super) fn is_header(name: &str) -> bool {
    name.starts_with("rb-") || matches!(name, "key" | "traceparent")
}

/// Reads the flat fields of one entry, whichever shape they have. At most `items_max` items are taken.
///
/// # Errors
/// [`Malformed`] when the entry can never become a request.
pub fn decode<N: AsRef<str>, V: AsRef<[u8]>>(
    fields: &[(N, V)],
    items_max: usize,
) -> Result<Decoded, Malformed> {
    let fields: Vec<(&str, &[u8])> = fields
        .iter()
        .map(|(name, value)| (name.as_ref(), value.as_ref()))
        .collect();
    decode_fields(&Fields(&fields), items_max)
}

/// The flat fields of an entry.
pub(super) struct Fields<'a>(pub(super) &'a [(&'a str, &'a [u8])]);

impl<'a> Fields<'a> {
    /// The text of a field; empty texts and texts that cannot be kept are none.
    pub(super) fn text(&self, name: &str, max: usize) -> Option<String> {
        let (_, value) = self.0.iter().rev().find(|(known, _)| *known == name)?;
        let text = std::str::from_utf8(value)
            .ok()
            .filter(|text| !text.contains('\0'))?;
        Some(clip(text, max)).filter(|text| !text.is_empty())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| *known == name)
    }

    fn data(&self) -> Option<&'a [u8]> {
        self.0
            .iter()
            .rev()
            .find(|(name, _)| *name == DATA_FIELD)
            .map(|(_, value)| *value)
    }
}

fn decode_fields(fields: &Fields<'_>, items_max: usize) -> Result<Decoded, Malformed> {
    let mut decoded = match fields.data() {
        None => legacy::flat(fields)?,
        Some(bytes) => {
            let text = utf8(bytes).map_err(|_| Malformed::NotUtf8)?;
            let object = Object::read(text, text)?.ok_or(Malformed::NotObject)?;
            match shape(&object, fields)? {
                Shape::EnvelopeV1 => envelope(&object, items_max)?,
                Shape::LegacyItem | Shape::LegacyFlat => legacy::item(text, &object, fields)?,
                Shape::LegacyExtension => legacy::extension(text, &object, fields)?,
            }
        }
    };
    decoded.key = decoded
        .key
        .or_else(|| fields.text("key", REFERENCE_CHARS_MAX));
    decoded.traceparent = decoded
        .traceparent
        .or_else(|| fields.text("traceparent", REFERENCE_CHARS_MAX));
    Ok(decoded)
}

/// Which shape a message in `data` has. An object is our envelope when it has a version or `data.items`;
/// but a record that happens to have a field `v` beside a phone number stays a record.
fn shape(object: &Object<'_>, fields: &Fields<'_>) -> Result<Shape, Malformed> {
    let data = object.get(&[DATA_FIELD]);
    let is_record = ["phone", "bank_account", "email", "name"]
        .iter()
        .any(|name| object.has(name));
    if object.has("v") && (data.is_some() || !is_record) {
        return Ok(Shape::EnvelopeV1);
    }
    if let Some(data) = data.filter(|data| object::is_object(data)) {
        let inner = Object::read(data.get(), object.whole())?;
        if inner.is_some_and(|inner| inner.has("items")) {
            return Ok(Shape::EnvelopeV1);
        }
        if !is_record && legacy::MARKS.iter().any(|mark| object.has(mark)) {
            return Ok(Shape::LegacyExtension);
        }
    }
    let marked = legacy::MARKS.iter().any(|mark| fields.has(mark));
    Ok(if marked {
        Shape::LegacyExtension
    } else {
        Shape::LegacyItem
    })
}

/// Reads our envelope.
fn envelope(object: &Object<'_>, items_max: usize) -> Result<Decoded, Malformed> {
    check_version(object.get(&["v"]), object.has("v"))?;
    let data = object.get(&[DATA_FIELD]).ok_or(Malformed::NoItems)?;
    let items = envelope_items(data, object.whole(), items_max)?;
    if items.is_empty() {
        return Err(Malformed::NoItems);
    }
    let mut decoded = common(object, Shape::EnvelopeV1)?;
    decoded.items = items;
    decoded.action = word(object, "action", Action::from_word)?.unwrap_or_default();
    decoded.profile = word(object, "profile", Profile::from_word)?;
    Ok(decoded)
}

/// The items under `data`. What we write ourselves is split in one go; other spellings take a second look.
fn envelope_items(data: &RawValue, whole: &str, items_max: usize) -> Result<Vec<Item>, Malformed> {
    #[derive(serde::Deserialize)]
    struct Ours<'a> {
        #[serde(borrow)]
        items: Vec<&'a RawValue>,
    }
    if let Ok(ours) = serde_json::from_str::<Ours<'_>>(data.get()) {
        let items = object::each_item(&ours.items, whole, items_max, Repeats::LastCounts);
        return Ok(items?);
    }
    let data = Object::read(data.get(), whole)?.ok_or(Malformed::NoItems)?;
    let items = data.get(&["items"]).ok_or(Malformed::NoItems)?;
    let items = object::items(items, whole, items_max, Repeats::LastCounts);
    Ok(items?)
}

/// What envelopes and the extension's messages share. The lane is a matter of speed only, so an unknown word is normal.
pub(super) fn common(object: &Object<'_>, shape: Shape) -> Result<Decoded, Malformed> {
    let lane = scalar(object, &["priority"], REFERENCE_CHARS_MAX)?;
    let callback = match object.get(&["callback_config"]) {
        Some(value) => Object::read(value.get(), object.whole())?,
        None => None,
    };
    let (mut stream, mut webhook_url) = (None, None);
    if let Some(callback) = &callback {
        stream = scalar(callback, &["stream"], REFERENCE_CHARS_MAX)?;
        webhook_url = scalar(callback, &["webhook_url"], URL_CHARS_MAX)?;
    }
    if stream.is_none() {
        stream = scalar(object, &["callback_stream"], REFERENCE_CHARS_MAX)?;
    }
    Ok(Decoded {
        request_id_given: scalar(object, &["request_id"], REFERENCE_CHARS_MAX)?,
        owner_given: scalar(object, &["user_id"], REFERENCE_CHARS_MAX)?,
        echo_id: scalar(object, &["echo_id"], REFERENCE_CHARS_MAX)?,
        source: scalar(object, &["source"], SOURCE_CHARS_MAX)?,
        lane: lane
            .as_deref()
            .and_then(Lane::from_word)
            .unwrap_or_default(),
        external_ref: scalar(object, &["external_ref"], REFERENCE_CHARS_MAX)?,
        batch_id: scalar(object, &["batch_id"], REFERENCE_CHARS_MAX)?,
        key: scalar(object, &["key"], REFERENCE_CHARS_MAX)?,
        traceparent: scalar(object, &["traceparent"], REFERENCE_CHARS_MAX)?,
        timestamp: moment(object, "timestamp")?,
        client_timestamp: moment(object, "client_timestamp")?,
        callback_stream: stream,
        webhook_url,
        ..Decoded::new(shape)
    })
}

/// No version is version 1. Minor versions only add fields, so `1.5` is read as 1.
pub(crate) fn check_version(value: Option<&RawValue>, given: bool) -> Result<(), Malformed> {
    let version = match value {
        None if !given => return Ok(()),
        None => return Err(Malformed::UnknownVersion),
        Some(value) => value
            .get()
            .parse::<f64>()
            .map_err(|_| Malformed::UnknownVersion)?,
    };
    let known = VERSION as f64..(VERSION + 1) as f64;
    if known.contains(&version) {
        Ok(())
    } else {
        Err(Malformed::UnknownVersion)
    }
}

/// A string, or a number as its text; anything else is none. Longer texts are cut: they are labels, not records.
pub(super) fn scalar(
    object: &Object<'_>,
    names: &[&str],
    max: usize,
) -> Result<Option<String>, ShapeError> {
    let Some(value) = object.get(names) else {
        return Ok(None);
    };
    let text = match object::string(value, object.whole())? {
        Some(text) => text,
        None if value
            .get()
            .starts_with(|c: char| c == '-' || c.is_ascii_digit()) =>
        {
            value.get().to_owned()
        }
        None => return Ok(None),
    };
    Ok(Some(clip(&text, max)).filter(|text| !text.is_empty()))
}

fn moment(object: &Object<'_>, name: &str) -> Result<Option<jiff::Timestamp>, ShapeError> {
    Ok(scalar(object, &[name], REFERENCE_CHARS_MAX)?.and_then(|text| moment::read(&text)))
}

fn word<T>(
    object: &Object<'_>,
    field: &'static str,
    from_word: fn(&str) -> Option<T>,
) -> Result<Option<T>, Malformed> {
    match scalar(object, &[field], REFERENCE_CHARS_MAX)? {
        Some(word) => from_word(&word)
            .map(Some)
            .ok_or(Malformed::UnknownWord(field)),
        None => Ok(None),
    }
}

fn clip(text: &str, max: usize) -> String {
    let is_short = text.len() <= max;
    if is_short {
        return text.to_owned();
    }
    text.chars().take(max).collect()
}

/// A text with U+0000 cannot be kept.
pub(super) fn without_nul(text: &str) -> Result<&str, ShapeError> {
    match text.find('\0') {
        Some(byte) => Err(ShapeError::NulCharacter(Place { item: None, byte })),
        None => Ok(text),
    }
}
