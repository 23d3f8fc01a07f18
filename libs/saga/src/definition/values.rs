//! Results on their way from one step to the next: JSON, read as the types that the handles carry.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::{StepError, StepResult};

/// What a step left for those after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Value(Bytes),
    Skipped,
    /// Of a fan-out, by item.
    Items(Vec<Bytes>),
}

/// Reads an output as the type that a handle carries.
pub(crate) type ReadOutput<R> = fn(&Output) -> StepResult<R>;

pub(crate) fn read_value<T: DeserializeOwned>(output: &Output) -> StepResult<T> {
    match output {
        Output::Value(bytes) => decode(bytes),
        Output::Skipped | Output::Items(_) => Err(mismatch()),
    }
}

pub(crate) fn read_option<T: DeserializeOwned>(output: &Output) -> StepResult<Option<T>> {
    match output {
        Output::Value(bytes) => decode(bytes).map(Some),
        Output::Skipped => Ok(None),
        Output::Items(_) => Err(mismatch()),
    }
}

pub(crate) fn read_items<T: DeserializeOwned>(output: &Output) -> StepResult<Vec<T>> {
    match output {
        Output::Items(items) => items.iter().map(decode).collect(),
        Output::Value(_) | Output::Skipped => Err(mismatch()),
    }
}

/// A result that says nothing, read as a number, for sagas that are made by chance.
#[cfg(feature = "testing")]
pub(crate) fn read_unit(_: &Output) -> StepResult<u32> {
    Ok(0)
}

/// The items of a fan-out: the elements of a JSON array, unread.
pub(crate) fn split(list: &Bytes) -> StepResult<Vec<Bytes>> {
    let items: Vec<&RawValue> = serde_json::from_slice(list).map_err(StepError::rejected)?;
    let slice = |item: &RawValue| list.slice_ref(item.get().as_bytes());
    Ok(items.into_iter().map(slice).collect())
}

/// Reads what a function gets, before it is called: nothing has happened yet.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &Bytes) -> StepResult<T> {
    serde_json::from_slice(bytes).map_err(StepError::rejected)
}

/// Writes a value of which no effect has come.
pub(crate) fn encode<T: Serialize>(value: &T) -> StepResult<Bytes> {
    let bytes = serde_json::to_vec(value).map_err(StepError::rejected)?;
    Ok(bytes.into())
}

/// Writes what a step returned. If it cannot be written, the step may have had its effect.
pub(crate) fn encode_result<T: Serialize>(value: &T) -> StepResult<Bytes> {
    Ok(serde_json::to_vec(value)?.into())
}

/// An output as JSON: a value itself, `null`, or an array of the items.
pub(crate) fn as_json(output: &Output) -> StepResult<Bytes> {
    Ok(match output {
        Output::Value(bytes) => bytes.clone(),
        Output::Skipped => Bytes::from_static(b"null"),
        Output::Items(items) => {
            let list = items.join(&b","[..]);
            [b"[", &list[..], b"]"].concat().into()
        }
    })
}

fn mismatch() -> StepError {
    StepError::rejected("a step left no result that this one could read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_cut_into_its_items() {
        let list = Bytes::from_static(b"[{\"a\":[1,2]}, 3 ,\"x\"]");
        let items = split(&list).unwrap();
        assert_eq!(items, [&b"{\"a\":[1,2]}"[..], b"3", b"\"x\""]);
        assert!(split(&Bytes::from_static(b"{}")).is_err());
    }
}
