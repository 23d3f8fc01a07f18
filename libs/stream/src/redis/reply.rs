//! Reads the server's answers. Buffers move into the entries; no value is copied.

use bytes::Bytes;
use ratebox_valkey::Error;
use redis::Value;

use crate::{Claimed, Entry, EntryId, Lane, StreamName};

/// An array, whatever the protocol calls it; nothing is an empty one.
pub(super) fn array(value: Value) -> Result<Vec<Value>, Error> {
    match value {
        Value::Array(items) | Value::Set(items) => Ok(items),
        Value::Map(pairs) => Ok(pairs
            .into_iter()
            .flat_map(|(key, value)| [key, value])
            .collect()),
        Value::Nil => Ok(Vec::new()),
        _ => Err(Error::answer("a list")),
    }
}

pub(super) fn bytes(value: Value) -> Result<Vec<u8>, Error> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        Value::Int(number) => Ok(number.to_string().into_bytes()),
        _ => Err(Error::answer("a text")),
    }
}

/// A text; bytes that are none are replaced, as a name on a stream may be anything.
pub(super) fn text(value: Value) -> Result<String, Error> {
    Ok(String::from_utf8(bytes(value)?)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

pub(super) fn number(value: &Value) -> Result<u64, Error> {
    match value {
        Value::Int(number) => u64::try_from(*number).map_err(|_| Error::answer("a count")),
        Value::BulkString(text) => std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Error::answer("a count")),
        Value::Double(number) if *number >= 0.0 => Ok(*number as u64),
        _ => Err(Error::answer("a count")),
    }
}

/// The server's clock in milliseconds, from `TIME`.
pub(super) fn now_ms(time: &Value) -> u64 {
    let Value::Array(parts) = time else { return 0 };
    let part = |index: usize| parts.get(index).and_then(|part| number(part).ok());
    part(0).unwrap_or(0) * 1_000 + part(1).unwrap_or(0) / 1_000
}

pub(super) fn id(value: &Value) -> Result<EntryId, Error> {
    let text = match value {
        Value::BulkString(text) => std::str::from_utf8(text).ok(),
        Value::SimpleString(text) => Some(text.as_str()),
        _ => None,
    };
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::answer("an entry id"))
}

pub(super) fn ids(value: Value) -> Result<Vec<EntryId>, Error> {
    array(value)?.iter().map(id).collect()
}

/// The entries of one stream: `[[id, [name, value, …]], …]`.
pub(super) fn entries(
    value: Value,
    stream: &StreamName,
    lane: Lane,
    deliveries: u32,
) -> Result<Vec<Entry>, Error> {
    let items = array(value)?;
    let mut entries = Vec::with_capacity(items.len());
    for item in items {
        entries.push(entry(item, stream, lane, deliveries)?);
    }
    Ok(entries)
}

fn entry(item: Value, stream: &StreamName, lane: Lane, deliveries: u32) -> Result<Entry, Error> {
    let mut parts = array(item)?.into_iter();
    let (Some(at), Some(flat)) = (parts.next(), parts.next()) else {
        return Err(Error::answer("an entry"));
    };
    let flat = array(flat)?;
    let mut fields = Vec::with_capacity(flat.len() / 2);
    let mut flat = flat.into_iter();
    while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
        fields.push((text(name)?.into(), Bytes::from(bytes(value)?)));
    }
    Ok(Entry {
        stream: stream.clone(),
        lane,
        id: id(&at)?,
        deliveries,
        fields,
    })
}

/// The answer of both claim scripts: cursor, entries, deliveries, vanished.
pub(super) fn claimed(value: Value, stream: &StreamName, lane: Lane) -> Result<Claimed, Error> {
    let mut parts = array(value)?.into_iter();
    let mut next = || parts.next().ok_or_else(|| Error::answer("a claim"));
    let (cursor, items, deliveries, vanished) = (next()?, next()?, next()?, next()?);
    let mut entries = entries(items, stream, lane, 0)?;
    for (entry, count) in entries.iter_mut().zip(array(deliveries)?) {
        entry.deliveries = u32::try_from(number(&count)?).unwrap_or(u32::MAX);
    }
    Ok(Claimed {
        entries,
        vanished: ids(vanished)?,
        next: id(&cursor)?,
    })
}

/// Names and values of a flat list or a map, such as `XINFO` gives.
pub(super) fn pairs(value: Value) -> Result<Vec<(String, Value)>, Error> {
    let mut flat = array(value)?.into_iter();
    let mut pairs = Vec::with_capacity(flat.len() / 2);
    while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
        pairs.push((text(name)?, value));
    }
    Ok(pairs)
}

/// Members and scores one after another; in RESP3 each is a pair of its own.
pub(super) fn flat(value: Value) -> Result<Vec<Value>, Error> {
    let mut flat = Vec::new();
    for item in array(value)? {
        match item {
            Value::Array(pair) => flat.extend(pair),
            item => flat.push(item),
        }
    }
    Ok(flat)
}

pub(super) fn is_no_such_key(error: &Error) -> bool {
    matches!(error, Error::Command { detail, .. } if detail.contains("no such key"))
}

/// A value by its name.
pub(super) fn take(pairs: &mut [(String, Value)], name: &str) -> Value {
    let found = pairs.iter_mut().find(|(key, _)| key == name);
    found.map_or(Value::Nil, |(_, value)| {
        std::mem::replace(value, Value::Nil)
    })
}
