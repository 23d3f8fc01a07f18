//! The one place that makes ids.
//!
//! All ids are UUIDv7: they carry their time, sort by it, and spread by 74 random bits. They are
//! not secrets.

#![expect(clippy::disallowed_methods, reason = "this is where ids are made")]

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use uuid::Uuid;

use crate::Timestamp;

/// A new UUIDv7, monotonic within this process.
pub fn new() -> Uuid {
    Uuid::now_v7()
}

/// The time that a UUIDv7 carries, in milliseconds since 1970.
pub fn time_ms(id: Uuid) -> i64 {
    let bits = id.as_u128() >> 80;
    i64::try_from(bits).unwrap_or(i64::MAX)
}

/// The smallest UUIDv7 of a moment: a bound for ranges and partitions.
pub fn lowest_at(time: Timestamp) -> Uuid {
    let ms = u128::try_from(time.as_millisecond().max(0)).unwrap_or(0);
    Uuid::from_u128(ms << 80)
}

/// Bytes from the operating system's generator, for tokens and secrets.
///
/// # Panics
/// When the operating system has no randomness to give, which no caller could handle.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the operating system gives random bytes");
    bytes
}

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let hash = digest(&SHA256, bytes);
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// `bytes` as lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Clock;

    #[test]
    fn ids_sort_by_time_and_tell_it() {
        let before = Clock::system().now_ms();
        let (first, second) = (new(), new());
        assert!(first < second);
        assert!((before..before + 60_000).contains(&time_ms(first)));
        assert!(lowest_at(Timestamp::from_millisecond(before).unwrap()) <= first);
    }

    #[test]
    fn hex_keeps_leading_zeros() {
        assert_eq!(hex(&[0, 10, 255]), "000aff");
    }
}
