//! The outer layer of a JSON object: its keys, and each value as its own text, not yet looked into.
//! Bodies and envelopes are read through it; items are read by `strict`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::item::Item;
use crate::shape::{Place, Repeats, ShapeError, offset_in};

/// An object's keys and values. When a key is repeated, its last value counts.
pub(crate) struct Object<'a> {
    whole: &'a str,
    entries: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// Reads a text that may or may not be an object; `None` when it is another JSON value.
    /// Places of errors count from the start of `whole`, which `text` is a part of.
    pub(crate) fn read(text: &'a str, whole: &'a str) -> Result<Option<Self>, ShapeError> {
        let offset = offset_in(whole, text);
        let mut json = serde_json::Deserializer::from_str(text);
        if !text.trim_start().starts_with('{') {
            let value: Result<serde::de::IgnoredAny, _> = serde_json::from_str(text);
            return match value {
                Ok(_) => Ok(None),
                Err(error) => Err(ShapeError::from_json(&error, text).inside(offset, None)),
            };
        }
        let entries = json
            .deserialize_map(Entries)
            .and_then(|entries| json.end().map(|()| entries));
        match entries {
            Ok(entries) => Ok(Some(Self { whole, entries })),
            Err(error) => Err(ShapeError::from_json(&error, text).inside(offset, None)),
        }
    }

    /// The value of the first of these keys that is there and not null.
    pub(crate) fn get(&self, names: &[&str]) -> Option<&'a RawValue> {
        names.iter().find_map(|name| {
            let found = self.entries.iter().rev().find(|(key, _)| key == name);
            found
                .map(|(_, value)| *value)
                .filter(|value| value.get() != "null")
        })
    }

    /// Whether a key is there, even with null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, _)| key == name)
    }

    /// The first of these keys, 32 at most, that is there more than once. One look at each entry, however
    /// many there are.
    pub(crate) fn repeated(&self, names: &[&'static str]) -> Option<&'static str> {
        let mut seen = 0_u32;
        self.entries.iter().find_map(|(key, _)| {
            let at = names.iter().position(|name| key == name)?;
            let bit = 1 << at;
            let is_again = seen & bit != 0;
            seen |= bit;
            is_again.then(|| names[at])
        })
    }

    /// Whether there is no key at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The text that the object is a part of.
    pub(crate) fn whole(&self) -> &'a str {
        self.whole
    }
}

/// Whether a value is an object.
pub(crate) fn is_object(value: &RawValue) -> bool {
    value.get().starts_with('{')
}

/// Reads a string; `None` when the value is something else. A string that cannot be kept is an error.
pub(crate) fn string(value: &RawValue, whole: &str) -> Result<Option<String>, ShapeError> {
    if !value.get().starts_with('"') {
        return Ok(None);
    }
    let offset = offset_in(whole, value.get());
    let text: String = serde_json::from_str(value.get())
        .map_err(|error| ShapeError::from_json(&error, value.get()).inside(offset, None))?;
    if text.contains('\0') {
        return Err(ShapeError::NulCharacter(Place {
            item: None,
            byte: offset,
        }));
    }
    Ok(Some(text))
}

/// The values of an array; `None` when the value is no array.
pub(crate) fn elements(value: &RawValue) -> Option<Vec<&RawValue>> {
    // The text was read as one JSON value before, so an array splits without errors.
    value
        .get()
        .starts_with('[')
        .then(|| serde_json::from_str(value.get()).ok())
        .flatten()
}

/// Reads the items of an array, or one object as one item.
pub(crate) fn items(
    value: &RawValue,
    whole: &str,
    max: usize,
    repeats: Repeats,
) -> Result<Vec<Item>, ShapeError> {
    let values = match elements(value) {
        Some(values) => values,
        None if is_object(value) => vec![value],
        None => return Err(ShapeError::NotAList("items")),
    };
    each_item(&values, whole, max, repeats)
}

/// Reads values as items, in order.
pub(crate) fn each_item(
    values: &[&RawValue],
    whole: &str,
    max: usize,
    repeats: Repeats,
) -> Result<Vec<Item>, ShapeError> {
    if values.len() > max {
        return Err(ShapeError::TooMany {
            list: "items",
            got: values.len(),
            max,
        });
    }
    let read = |(number, value): (usize, &&RawValue)| {
        Item::from_raw(value, repeats).map_err(|error| {
            error.inside(offset_in(whole, value.get()), u32::try_from(number).ok())
        })
    };
    values.iter().enumerate().map(read).collect()
}

// === Reading of entries ===

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::with_capacity(16);
        while let Some(key) = map.next_key_seed(Key)? {
            entries.push((key, map.next_value()?));
        }
        Ok(entries)
    }
}

struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }

    fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }
}
