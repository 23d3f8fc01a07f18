//! The one place that makes ids.
//!
//! All ids are UUIDv7: they carry their time, sort by it, and spread by 74 random bits. They are
//! not secrets.

use std::sync::{Mutex, PoisonError};

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use uuid::{ContextV7, Uuid};

use crate::{Clock, Timestamp};

/// How far behind its latest id the clock may be before ids follow it back. A clock that is corrected
/// steadily never is; one that was set wrong and then right is by far, and its ids would tell that
/// wrong time until it has come round again. Rows are kept, found and looked after by that time.
const BEHIND_MS_MAX: u64 = 5_000;

static SOURCE: Mutex<Source> = Mutex::new(Source::new());

/// A new UUIDv7, monotonic within this process unless the clock is set back by more than 5 seconds.
pub fn new() -> Uuid {
    let mut now_ms = clock_ms();
    let mut source = SOURCE.lock().unwrap_or_else(PoisonError::into_inner);
    if source.is_far_ahead_of(now_ms) {
        // This thread may have been held up since it looked, while others went on.
        now_ms = clock_ms();
    }
    let stamp = source.stamp(now_ms);
    drop(source);
    Uuid::new_v7(stamp)
}

fn clock_ms() -> u64 {
    u64::try_from(Clock::system().now_ms()).unwrap_or(0)
}

/// Draws the times and counters of ids, so that they go up.
struct Source {
    context: ContextV7,
    latest_ms: u64,
}

impl Source {
    const fn new() -> Self {
        Self {
            context: ContextV7::new(),
            latest_ms: 0,
        }
    }

    fn is_far_ahead_of(&self, now_ms: u64) -> bool {
        self.latest_ms > now_ms.saturating_add(BEHIND_MS_MAX)
    }

    fn stamp(&mut self, now_ms: u64) -> uuid::Timestamp {
        if self.is_far_ahead_of(now_ms) {
            *self = Self::new();
        }
        self.latest_ms = self.latest_ms.max(now_ms);
        let nanos = u32::try_from(now_ms % 1_000 * 1_000_000).unwrap_or(0);
        uuid::Timestamp::from_unix(&self.context, now_ms / 1_000, nanos)
    }
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

    #[test]
    fn ids_sort_by_time_and_tell_it() {
        let before = Clock::system().now_ms();
        let (first, second) = (new(), new());
        assert!(first < second);
        assert!((before..before + 60_000).contains(&time_ms(first)));
        assert!(lowest_at(Timestamp::from_millisecond(before).unwrap()) <= first);
    }

    #[test]
    fn ids_follow_a_clock_that_is_set_right_and_not_one_that_jitters() {
        const DAY_MS: u64 = 86_400_000;
        let mut source = Source::new();
        let mut at = |now_ms| Uuid::new_v7(source.stamp(now_ms));
        let right_ms = 1_700_000_000_000;
        let wrong_ms = right_ms + 40 * DAY_MS;
        let ahead = at(wrong_ms);
        let jitter = at(wrong_ms - BEHIND_MS_MAX);
        assert!(ahead < jitter, "a small step back does not show");
        assert_eq!(time_ms(jitter), time_ms(ahead));
        let (first, second) = (at(right_ms), at(right_ms));
        assert_eq!(u64::try_from(time_ms(first)), Ok(right_ms));
        assert!(first < second);
        let later = at(right_ms + 1);
        assert!(second < later);
        assert_eq!(u64::try_from(time_ms(later)), Ok(right_ms + 1));
    }

    #[test]
    fn hex_keeps_leading_zeros() {
        assert_eq!(hex(&[0, 10, 255]), "000aff");
    }
}
