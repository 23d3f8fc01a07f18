//! The strict reader of one item: decodes every key and string, and finds the known fields on the way.
//! It refuses what no store of ours can keep: U+0000, lone surrogates, numbers out of range, deep nesting. At
//! the door it refuses a known field that is given twice, too; all other keys are nobody's.
//! Texts without escapes are not copied: they are remembered as a range of the item's text.

use std::fmt;
use std::ops::Range;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use crate::item::JsonKind;
use crate::shape::{Place, Repeats, ShapeError, offset_in};

/// Containers inside one another that an item may have, its own object included.
/// Real records need three or four; the limit keeps every later reader off its stack's end.
pub const DEPTH_MAX: usize = 64;

/// Digits a number may be written with, and the largest power of ten it may name. A double holds
/// less; PostgreSQL's `jsonb` refuses numbers whose *spelling* is far outside, even if they are 0.
const NUMBER_DIGITS_MAX: usize = 400;

/// How many fields of an item are known to us.
pub(crate) const KNOWN: usize = 5;

/// The names of these fields; the last of them has three.
const NAMES: [&str; 7] = [
    "phone",
    "bank_account",
    "email",
    "name",
    "bank",
    "bank_name",
    "bank_code",
];

/// What stands in one known field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Slot {
    /// Not there, or null.
    #[default]
    Absent,
    /// A string without escapes: where it stands in the text.
    Span(Range<usize>),
    /// A string with escapes, decoded.
    Owned(Box<str>),
    /// Something else.
    Wrong(JsonKind),
}

/// What an item turned out to be.
pub(crate) enum Found {
    Object([Slot; KNOWN]),
    NotObject(JsonKind),
}

/// Reads one whole JSON text strictly.
pub(crate) fn read(text: &str, repeats: Repeats) -> Result<Found, ShapeError> {
    let mut scan = Scan {
        text,
        repeats,
        fault: None,
        floats: false,
    };
    let mut json = serde_json::Deserializer::from_str(text);
    let read = Top { scan: &mut scan }
        .deserialize(&mut json)
        .and_then(|found| {
            json.end()?;
            Ok(found)
        });
    let found = read.map_err(|error| {
        let shape = ShapeError::from_json(&error, text);
        match (scan.fault, shape.place()) {
            (Some(Fault::Nul), Some(place)) => ShapeError::NulCharacter(place),
            (Some(Fault::Deep), Some(place)) => ShapeError::TooDeep(place),
            (Some(Fault::Repeated(field)), Some(place)) => {
                ShapeError::RecordFieldRepeated { field, place }
            }
            _ => shape,
        }
    })?;
    if scan.floats {
        refuse_endless_numbers(text)?;
    }
    Ok(found)
}

/// What the reader itself refuses; everything else is serde_json's word.
#[derive(Clone, Copy)]
enum Fault {
    Nul,
    Deep,
    Repeated(&'static str),
}

struct Scan<'t> {
    text: &'t str,
    repeats: Repeats,
    fault: Option<Fault>,
    /// A number with a fraction, an exponent or more than 19 digits was seen.
    floats: bool,
}

impl Scan<'_> {
    fn refuse<E: de::Error>(&mut self, fault: Fault) -> E {
        self.fault = Some(fault);
        E::custom("refused")
    }

    /// Only decoded copies can hold U+0000: raw control characters are refused by serde_json.
    fn clean<E: de::Error>(&mut self, decoded: &str) -> Result<(), E> {
        if decoded.as_bytes().contains(&0) {
            Err(self.refuse(Fault::Nul))
        } else {
            Ok(())
        }
    }

    fn enter<E: de::Error>(&mut self, depth: usize) -> Result<usize, E> {
        if depth >= DEPTH_MAX {
            Err(self.refuse(Fault::Deep))
        } else {
            Ok(depth + 1)
        }
    }
}

// === The item itself ===

struct Top<'s, 't> {
    scan: &'s mut Scan<'t>,
}

impl<'de> DeserializeSeed<'de> for Top<'_, 'de> {
    type Value = Found;

    fn deserialize<D: de::Deserializer<'de>>(self, json: D) -> Result<Found, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Top<'_, 'de> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an item")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let mut slots: [Slot; KNOWN] = Default::default();
        let mut seen = 0_u8;
        while let Some(name) = map.next_key_seed(Key { scan: self.scan })? {
            if let Some(at) = name {
                let bit = 1_u8 << at;
                if seen & bit != 0 && self.scan.repeats == Repeats::Refused {
                    return Err(self.scan.refuse(Fault::Repeated(NAMES[at])));
                }
                seen |= bit;
            }
            let value = map.next_value_seed(Value {
                scan: self.scan,
                depth: 1,
                keep: name.is_some(),
            })?;
            if let Some(slot) = name.and_then(|at| slots.get_mut(at.min(KNOWN - 1))) {
                *slot = value;
            }
        }
        Ok(Found::Object(slots))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Found, A::Error> {
        while seq
            .next_element_seed(Value {
                scan: self.scan,
                depth: 1,
                keep: false,
            })?
            .is_some()
        {}
        Ok(Found::NotObject(JsonKind::Array))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Found, E> {
        self.scan.clean(text)?;
        Ok(Found::NotObject(JsonKind::String))
    }

    fn visit_borrowed_str<E: de::Error>(self, _: &'de str) -> Result<Found, E> {
        Ok(Found::NotObject(JsonKind::String))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Found, E> {
        Ok(Found::NotObject(JsonKind::Bool))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Found, E> {
        Ok(Found::NotObject(JsonKind::Number))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Found, E> {
        Ok(Found::NotObject(JsonKind::Number))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Found, E> {
        self.scan.floats = true;
        Ok(Found::NotObject(JsonKind::Number))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Found, E> {
        Ok(Found::NotObject(JsonKind::Null))
    }
}

// === One key ===

/// Reads a key; at the top level it says which known field it names.
struct Key<'s, 't> {
    scan: &'s mut Scan<'t>,
}

/// The place of a known field's name among [`NAMES`].
fn known(key: &str) -> Option<usize> {
    match key {
        "phone" => Some(0),
        "bank_account" => Some(1),
        "email" => Some(2),
        "name" => Some(3),
        "bank" => Some(4),
        "bank_name" => Some(5),
        "bank_code" => Some(6),
        _ => None,
    }
}

impl<'de> DeserializeSeed<'de> for Key<'_, 'de> {
    type Value = Option<usize>;

    fn deserialize<D: de::Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_, 'de> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Self::Value, E> {
        self.scan.clean(key)?;
        Ok(known(key))
    }

    fn visit_borrowed_str<E: de::Error>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(known(key))
    }
}

// === Any value inside an item ===

struct Value<'s, 't> {
    scan: &'s mut Scan<'t>,
    /// Containers around this value.
    depth: usize,
    /// Whether the text of a string is wanted.
    keep: bool,
}

impl<'de> DeserializeSeed<'de> for Value<'_, 'de> {
    type Value = Slot;

    fn deserialize<D: de::Deserializer<'de>>(self, json: D) -> Result<Slot, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, 'de> {
    type Value = Slot;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Slot, A::Error> {
        let depth = self.scan.enter(self.depth)?;
        while map.next_key_seed(Key { scan: self.scan })?.is_some() {
            map.next_value_seed(Value {
                scan: self.scan,
                depth,
                keep: false,
            })?;
        }
        Ok(Slot::Wrong(JsonKind::Object))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Slot, A::Error> {
        let depth = self.scan.enter(self.depth)?;
        while seq
            .next_element_seed(Value {
                scan: self.scan,
                depth,
                keep: false,
            })?
            .is_some()
        {}
        Ok(Slot::Wrong(JsonKind::Array))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Slot, E> {
        self.scan.clean(text)?;
        Ok(if self.keep {
            Slot::Owned(text.into())
        } else {
            Slot::Wrong(JsonKind::String)
        })
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Slot, E> {
        let start = offset_in(self.scan.text, text);
        Ok(Slot::Span(start..start + text.len()))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Slot, E> {
        Ok(Slot::Wrong(JsonKind::Bool))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Slot, E> {
        Ok(Slot::Wrong(JsonKind::Number))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Slot, E> {
        Ok(Slot::Wrong(JsonKind::Number))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Slot, E> {
        self.scan.floats = true;
        Ok(Slot::Wrong(JsonKind::Number))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Slot, E> {
        Ok(Slot::Absent)
    }
}

// === Numbers by their spelling ===

/// Looks at how the numbers of a valid JSON text are written. Only called when one was not a plain integer.
fn refuse_endless_numbers(text: &str) -> Result<(), ShapeError> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let rest = bytes.get(at..).unwrap_or_default();
        at += match byte {
            b'"' => string_length(rest),
            b'-' | b'0'..=b'9' => {
                let length = rest
                    .iter()
                    .take_while(|byte| is_number_byte(**byte))
                    .count();
                if is_endless(rest.get(..length).unwrap_or_default()) {
                    return Err(ShapeError::NumberOutOfRange(Place {
                        item: None,
                        byte: at,
                    }));
                }
                length
            }
            _ => 1,
        };
    }
    Ok(())
}

fn is_number_byte(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

/// Bytes of the string that `rest` starts with, quotes included.
fn string_length(rest: &[u8]) -> usize {
    let mut escaped = false;
    for (at, &byte) in rest.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn is_endless(number: &[u8]) -> bool {
    let exponent = number.iter().position(|byte| matches!(byte, b'e' | b'E'));
    let (digits, exponent) = number.split_at(exponent.unwrap_or(number.len()));
    let power =
        exponent
            .iter()
            .filter(|byte| byte.is_ascii_digit())
            .fold(0_usize, |power, digit| {
                power
                    .saturating_mul(10)
                    .saturating_add(usize::from(digit - b'0'))
            });
    digits.len() > NUMBER_DIGITS_MAX || power > NUMBER_DIGITS_MAX
}
