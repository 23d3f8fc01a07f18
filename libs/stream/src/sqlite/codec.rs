//! Ids and fields as the tables keep them.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{EntryId, Error, FieldName};

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

/// Fields one after another: each name and value with a 32-bit length before it, most
/// significant byte first.
pub(super) fn encode<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Bytes {
    let mut out = BytesMut::with_capacity(256);
    for (name, value) in fields {
        for part in [name.as_bytes(), value] {
            out.put_u32(u32::try_from(part.len()).unwrap_or(u32::MAX));
            out.put_slice(part);
        }
    }
    out.freeze()
}

/// The fields again; values share the buffer.
pub(super) fn decode(mut bytes: Bytes) -> Result<Vec<(FieldName, Bytes)>, Error> {
    let mut fields = Vec::new();
    while bytes.has_remaining() {
        let name = part(&mut bytes)?;
        let value = part(&mut bytes)?;
        fields.push((FieldName::from(&*String::from_utf8_lossy(&name)), value));
    }
    Ok(fields)
}

fn part(bytes: &mut Bytes) -> Result<Bytes, Error> {
    let broken = || Error::refused("a stored entry cannot be read");
    let length = bytes.try_get_u32().map_err(|_| broken())?;
    let length = usize::try_from(length).map_err(|_| broken())?;
    if bytes.remaining() < length {
        return Err(broken());
    }
    Ok(bytes.split_to(length))
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

    #[test]
    fn fields_come_back_and_a_cut_is_an_error() {
        let fields = [("a", &b"\x00\xff"[..]), ("", &b""[..])];
        let bytes = encode(fields.into_iter());
        let back = decode(bytes.clone()).unwrap();
        assert_eq!(back[0], ("a".into(), Bytes::from_static(b"\x00\xff")));
        assert!(decode(bytes.slice(..bytes.len() - 1)).is_err());
    }
}
