//! Ids that follow from other ids, so that a redelivery or a replay makes the same ones again.
//! They are UUIDv7 in shape: the first 48 bits are a time in milliseconds, the rest is a hash.

use ring::digest::{Context, SHA256};
use uuid::Uuid;

/// Id of one item of a request: the time bits of the request's id, then the first bits of
/// SHA-256 over `item`, the sixteen bytes of the request's id, and the item's number (four bytes, big-endian).
pub fn item_id(request_id: Uuid, item_no: u32) -> Uuid {
    let mut hash = Context::new(&SHA256);
    hash.update(b"item");
    hash.update(request_id.as_bytes());
    hash.update(&item_no.to_be_bytes());
    shaped(millis(request_id), hash)
}

/// Id of a request that a foreign producer put on the bus: the time of the entry in milliseconds, then the
/// first bits of SHA-256 over `foreign`, the stream's name, a zero byte, and the entry's id.
pub fn foreign_request_id(entry_ms: u64, stream: &str, entry_id: &str) -> Uuid {
    let mut hash = Context::new(&SHA256);
    hash.update(b"foreign");
    hash.update(stream.as_bytes());
    hash.update(&[0]);
    hash.update(entry_id.as_bytes());
    shaped(entry_ms, hash)
}

/// Id of one request of an import: the time bits of the import's id, the number in the twelve bits
/// after the version (its lowest 4,095 values, so that ids sort by it), then the first bits of SHA-256
/// over `part`, the sixteen bytes of the import's id, and the number (four bytes, big-endian).
pub fn part_id(import: Uuid, number: u32) -> Uuid {
    let mut hash = Context::new(&SHA256);
    hash.update(b"part");
    hash.update(import.as_bytes());
    hash.update(&number.to_be_bytes());
    let rank = u16::try_from(number).unwrap_or(u16::MAX).min(0x0fff);
    let (high, low) = shaped(millis(import), hash).as_u64_pair();
    Uuid::from_u64_pair((high & !0x0fff) | u64::from(rank), low)
}

/// The time bits of a UUIDv7, in milliseconds since 1970.
pub fn millis(id: Uuid) -> u64 {
    let (high, _) = id.as_u64_pair();
    high >> 16
}

fn shaped(millis: u64, hash: Context) -> Uuid {
    let digest = hash.finish();
    let mut rest = [0; 10];
    rest.iter_mut()
        .zip(digest.as_ref())
        .for_each(|(to, from)| *to = *from);
    uuid::Builder::from_unix_timestamp_millis(millis, &rest).into_uuid()
}
