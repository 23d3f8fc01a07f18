//! Named values as one run of bytes: how stores keep the fields of an entry as they were.
//!
//! For each field its name and its value, both with a 32-bit length before them, most significant
//! byte first. Values may be any bytes; order and repeated names are kept.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Fields in their order.
pub type Fields = Vec<(String, Bytes)>;

/// The bytes are no fields, or were cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no fields")]
pub struct NotFields;

/// The fields as one run of bytes. A name or value may have 4 GiB.
pub fn encode<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Bytes {
    let mut out = BytesMut::with_capacity(256);
    for (name, value) in fields {
        for part in [name.as_bytes(), value] {
            out.put_u32(u32::try_from(part.len()).unwrap_or(u32::MAX));
            out.put_slice(part);
        }
    }
    out.freeze()
}

/// The same for fields that lie in a list.
pub fn encode_all(fields: &[(String, Bytes)]) -> Bytes {
    encode(
        fields
            .iter()
            .map(|(name, value)| (name.as_str(), &value[..])),
    )
}

/// The fields again; values share the buffer.
///
/// # Errors
/// [`NotFields`] when the bytes were not made by [`encode`].
pub fn decode(bytes: Bytes) -> Result<Fields, NotFields> {
    decode_as(bytes)
}

/// The same with names of another type.
///
/// # Errors
/// As [`decode`].
pub fn decode_as<N: for<'a> From<&'a str>>(mut bytes: Bytes) -> Result<Vec<(N, Bytes)>, NotFields> {
    let mut fields = Vec::new();
    while bytes.has_remaining() {
        let name = part(&mut bytes)?;
        let value = part(&mut bytes)?;
        fields.push((N::from(&*String::from_utf8_lossy(&name)), value));
    }
    Ok(fields)
}

fn part(bytes: &mut Bytes) -> Result<Bytes, NotFields> {
    let length = bytes.try_get_u32().map_err(|_| NotFields)?;
    let length = usize::try_from(length).map_err(|_| NotFields)?;
    if bytes.remaining() < length {
        return Err(NotFields);
    }
    Ok(bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_and_a_cut_is_an_error() {
        let fields = [
            ("a", &b"\x00\xff"[..]),
            ("", &b""[..]),
            ("a", &b"again"[..]),
        ];
        let bytes = encode(fields.into_iter());
        let back = decode(bytes.clone()).unwrap();
        assert_eq!(back[0], ("a".to_owned(), Bytes::from_static(b"\x00\xff")));
        assert_eq!(encode_all(&back), bytes);
        assert_eq!(decode(bytes.slice(..bytes.len() - 1)), Err(NotFields));
    }
}
