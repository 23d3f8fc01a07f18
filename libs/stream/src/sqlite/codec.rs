//! Ids and fields as the tables keep them.

use bytes::Bytes;
use ratebox_kit::fields;

use crate::{EntryId, Error, FieldName};

pub(super) use ratebox_kit::fields::encode;

/// Bits of an id that count the entries of one millisecond.
const SEQ_BITS: u32 = 20;

/// An id as one integer that sorts like it.
pub(super) fn key(id: EntryId) -> i64 {
    let seq = id.seq.min((1 << SEQ_BITS) - 1);
    let ms = id.ms.min(u64::MAX >> (SEQ_BITS + 1));
    i64::try_from((ms << SEQ_BITS) | seq).unwrap_or(i64::MAX)
}

/// The id behind an integer.
pub(super) fn id(key: i64) -> EntryId {
    let key = u64::try_from(key).unwrap_or(0);
    EntryId::new(key >> SEQ_BITS, key & ((1 << SEQ_BITS) - 1))
}

/// The fields of a stored entry.
pub(super) fn decode(bytes: Bytes) -> Result<Vec<(FieldName, Bytes)>, Error> {
    fields::decode_as(bytes).map_err(|_| Error::refused("a stored entry cannot be read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_as_integers_and_come_back() {
        let ids = [
            EntryId::new(1, 5),
            EntryId::new(1, 6),
            EntryId::new(1_700_000_000_000, 0),
        ];
        assert!(ids.map(key).is_sorted());
        assert_eq!(ids.map(key).map(id), ids);
        assert!(key(EntryId::MAX) > key(ids[2]));
    }
}
